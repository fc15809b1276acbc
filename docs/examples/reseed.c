/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program of the guest with a random generator in its own memory, which clones of a sandbox must not share. It prints
 * numbers, and seeds the generator anew when /run/wisp/generation says that the machine has become another one. It does
 * not use libwisp.
 *
 *	cc -static reseed.c -o reseed && wisp cp reseed box:/tmp/reseed && wisp exec box -- /tmp/reseed
 */
#include <err.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

static const char generation[] = "/run/wisp/generation";

struct generator {
	int watch; /* an inotify descriptor: it has an event if the machine was cloned */
	uint64_t state;
};

/* The kernel's own generator is seeded anew before any program of a clone continues. */
static void seed(struct generator *generator)
{
	do {
		if (getrandom(&generator->state, sizeof(generator->state), 0) != sizeof(generator->state))
			err(1, "getrandom");
	} while (generator->state == 0);
}

static struct generator begin(void)
{
	struct generator generator = {.watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC)};
	/* The file is written in place. Watch it first: a change after that is never missed. */
	if (generator.watch < 0 || inotify_add_watch(generator.watch, generation, IN_MODIFY) < 0)
		err(1, "%s", generation);
	seed(&generator);
	return generator;
}

/* Whether the generator was seeded anew, because the machine is another one than at the last call. */
static bool reseed(struct generator *generator)
{
	char events[sizeof(struct inotify_event) * 16];
	bool cloned = false;
	while (read(generator->watch, events, sizeof(events)) > 0)
		cloned = true;
	if (cloned) {
		seed(generator);
		printf("reseeded\n");
	}
	return cloned;
}

/* An xorshift, to be short. It is not for keys: use getrandom(2) for those. */
static uint64_t next(struct generator *generator)
{
	uint64_t x = generator->state;
	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return generator->state = x;
}

/*
 * A program can be frozen between any two instructions. So look again after a number is made: one that was made before
 * the freeze, and is returned after it, would be the same in each clone.
 */
static uint64_t draw(struct generator *generator)
{
	uint64_t number;
	do
		number = next(generator);
	while (reseed(generator));
	return number;
}

int main(void)
{
	struct generator generator = begin();
	struct timespec pause = {.tv_nsec = 100000000};
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (;;) {
		printf("%016" PRIx64 "\n", draw(&generator));
		nanosleep(&pause, NULL);
	}
}
