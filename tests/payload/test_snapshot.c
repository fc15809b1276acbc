/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saving and restoring a machine on a real vCPU. The payload counts, and tells when a register, its memory or its clock
 * is not as it was; what it prints before a snapshot and after a restore must be one count without a gap.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/engine.h"
#include "tests/unit/test.h"
#include "virtio/state.h"
#include "vmm/monitor/bus.h"
#include "vmm/monitor/machine.h"
#include "vmm/shared/container_of.h"

#define CONSOLE_MAX (4u << 20)
#define BEFORE 10u /* lines until the snapshot, and after it */
#define GENERATIONS 10
#define TICKS_MAX 15000u /* of 2 ms */

static const char *payload_path = "build/tests/payload/payload";

struct run {
	struct loop *loop;
	struct machine *machine;
	struct description description;
	struct description_fds fds;
	char console[CONSOLE_MAX];
	size_t length;
	unsigned lines; /* atomic */
	unsigned stop_at;
	unsigned ticks; /* that are left */
	bool stopped;
	int end; /* enum wisp_end; -1: none */
	/* The snapshot to make once BEFORE lines are there, or -1. */
	int file;
	struct snapshot_layout layout;
	size_t length_at_snapshot, length_while_paused;
	int result;
	struct err err;
	struct __kernel_timespec tick;
	struct loop_op tick_op;
	struct loop_task task;
};

static void on_console(void *context, const void *data, size_t len)
{
	struct run *r = context;
	const char *text = data;
	for (size_t i = 0; i < len && r->length < CONSOLE_MAX; i++) {
		r->console[r->length++] = text[i];
		if (text[i] == '\n')
			__atomic_add_fetch(&r->lines, 1, __ATOMIC_SEQ_CST);
	}
}

static void on_end(void *context, enum wisp_end end, const char *text)
{
	struct run *r = context;
	printf("# %s\n", text);
	r->end = (int)end;
	loop_stop(r->loop);
}

static void take_snapshot(struct loop_task *task)
{
	struct run *r = container_of(task, struct run, task);
	struct snapshot_origin origin = {0};
	const struct timespec a_while = {.tv_nsec = 20000000};
	int file = r->file;
	r->file = -1; /* pausing runs rounds of the loop, and the tick may come in one */
	r->stop_at = UINT_MAX;
	r->result = machine_pause(r->machine, &r->err);
	r->length_at_snapshot = r->length;
	nanosleep(&a_while, NULL);
	r->length_while_paused = r->length;
	if (r->result == 0)
		r->result = machine_save(r->machine, &origin, &r->err);
	if (r->result == 0)
		r->result = snapshot_write(file, &origin, &r->layout, &r->err);
	free(origin.state);
	machine_resume(r->machine);
	r->stop_at = __atomic_load_n(&r->lines, __ATOMIC_SEQ_CST) + BEFORE;
}

static void start_tick(struct run *r)
{
	struct io_uring_sqe *sqe = loop_sqe(r->loop);
	io_uring_prep_timeout(sqe, &r->tick, 0, 0);
	loop_start(r->loop, sqe, &r->tick_op);
}

static void on_tick(struct loop_op *op, int res, uint32_t flags)
{
	struct run *r = container_of(op, struct run, tick_op);
	(void)flags;
	if (res != -ETIME)
		return;
	if (__atomic_load_n(&r->lines, __ATOMIC_SEQ_CST) < r->stop_at) {
		start_tick(r);
	} else if (r->file >= 0) {
		loop_defer(r->loop, &r->task);
		start_tick(r);
	} else {
		r->stopped = true;
		loop_stop(r->loop);
	}
	/* A machine whose state was altered may do anything, or nothing. */
	if (--r->ticks == 0)
		loop_stop(r->loop);
}

static int begin(void *context, struct err *err)
{
	(void)err;
	start_tick(context);
	return 0;
}

/*
 * Runs a new machine, or one from `origin`, until it has counted on, for at most `ticks`; with a snapshot into `file`
 * in between.
 */
static int run_for(unsigned ticks, struct run *r, const char *args, struct snapshot_origin *origin, int file)
{
	memset(r, 0, offsetof(struct run, console));
	r->length = r->lines = 0;
	r->stopped = false;
	r->result = 0;
	r->end = -1;
	r->file = file;
	r->stop_at = BEFORE;
	r->ticks = ticks;
	r->err = (struct err){0};
	r->tick = (struct __kernel_timespec){.tv_nsec = 2000000};
	r->tick_op.done = on_tick;
	r->task = (struct loop_task){.run = take_snapshot};
	loop_create(&r->loop, NULL);
	description_init(&r->description);
	description_init_fds(&r->fds);
	r->description.flags = DESCRIPTION_BARE;
	r->description.cpus = 1;
	r->description.memory_mib = 64;
	r->description.engine = test_engine();
	description_set(r->description.kernel_args, sizeof(r->description.kernel_args), args);
	if (!origin)
		r->fds.kernel = open(payload_path, O_RDONLY | O_CLOEXEC);
	struct machine_options options = {.description = &r->description,
	        .fds = &r->fds,
	        .origin = origin,
	        .console = on_console,
	        .begun = begin,
	        .ended = on_end,
	        .context = r,
	        .loop = r->loop};
	int ret = machine_create(&r->machine, &options, &r->err);
	if (ret == 0)
		ret = machine_run(r->machine, &r->err);
	machine_destroy(r->machine);
	loop_destroy(r->loop);
	description_close_fds(&r->fds);
	if (ret < 0)
		printf("# %s\n", r->err.text);
	return ret;
}

static int run(struct run *r, const char *args, struct snapshot_origin *origin, int file)
{
	return run_for(TICKS_MAX, r, args, origin, file);
}

/* Whether the text is a count from `*n` on, one a line; the last line may be incomplete. */
static bool counts(const char *text, size_t length, uint64_t *n)
{
	size_t at = 0;
	while (at < length) {
		char line[32];
		snprintf(line, sizeof(line), "n=%016llx\n", (unsigned long long)*n);
		size_t part = strlen(line) < length - at ? strlen(line) : length - at;
		if (memcmp(text + at, line, part) != 0) {
			printf("# expected %.18s, found %.*s\n", line, (int)part, text + at);
			return false;
		}
		at += part;
		++*n;
	}
	return true;
}

static struct run source, copy;
static char joined[2 * CONSOLE_MAX];

/* What a clone printed goes on where its source's snapshot was. `before` is what came before that, of all ancestors. */
static bool goes_on(const char *before, size_t before_length, const struct run *r)
{
	uint64_t n = 1;
	memcpy(joined, before, before_length);
	memcpy(joined + before_length, r->console, r->length);
	return counts(joined, before_length + r->length, &n);
}

static void a_machine_goes_on_after_a_snapshot(void)
{
	uint64_t n = 1;
	int file = memfd_create("snapshot", MFD_CLOEXEC);
	CHECK_EQ(run(&source, "payload=count fill=8", NULL, file), 0);
	CHECK(source.stopped);
	CHECK_EQ(source.result, 0);
	CHECK(source.length_at_snapshot > 0);
	CHECK_EQ(source.length_while_paused, source.length_at_snapshot);
	CHECK(counts(source.console, source.length, &n));
	close(file);
}

static int restore_with(bool prefetch, struct snapshot_origin *origin, int file, const struct snapshot_layout *layout)
{
	struct err err = {0};
	int ret = snapshot_read(file, layout, 64u << 20, 0, prefetch, origin, &err);
	if (ret < 0)
		printf("# %s\n", err.text);
	return ret;
}

static int restore(struct snapshot_origin *origin, int file, const struct snapshot_layout *layout)
{
	return restore_with(false, origin, file, layout);
}

/* Two clones of one snapshot: each goes on with the same number, and neither changes the file. */
static void clones_go_on_where_the_snapshot_was(void)
{
	int file = memfd_create("snapshot", MFD_CLOEXEC);
	REQUIRE(run(&source, "payload=count fill=8", NULL, file) == 0 && source.result == 0);
	for (int i = 0; i < 2; i++) {
		struct snapshot_origin origin;
		REQUIRE(restore(&origin, file, &source.layout) == 0);
		CHECK_EQ(run(&copy, "", &origin, -1), 0);
		CHECK(copy.stopped);
		CHECK(goes_on(source.console, source.length_at_snapshot, &copy));
		snapshot_destroy(&origin);
	}
	close(file);
}

/* Once it is read, the file no longer matters. */
static void prefetched_memory_is_the_machines_own(void)
{
	struct snapshot_origin origin;
	int file = memfd_create("snapshot", MFD_CLOEXEC);
	REQUIRE(run(&source, "payload=count fill=8", NULL, file) == 0 && source.result == 0);
	REQUIRE(restore_with(true, &origin, file, &source.layout) == 0);
	CHECK_EQ(ftruncate(file, 0), 0);
	CHECK_EQ(run(&copy, "", &origin, -1), 0);
	CHECK(copy.stopped);
	CHECK(goes_on(source.console, source.length_at_snapshot, &copy));
	snapshot_destroy(&origin);
	close(file);
}

static void ten_generations_count_without_a_gap(void)
{
	static char history[2 * CONSOLE_MAX];
	size_t length = 0;
	int file = memfd_create("snapshot", MFD_CLOEXEC);
	REQUIRE(run(&source, "payload=count fill=8", NULL, file) == 0 && source.result == 0);
	for (int i = 0; i < GENERATIONS; i++) {
		struct snapshot_origin origin;
		int next = memfd_create("snapshot", MFD_CLOEXEC);
		memcpy(history + length, source.console, source.length_at_snapshot);
		length += source.length_at_snapshot;
		REQUIRE(restore(&origin, file, &source.layout) == 0);
		CHECK_EQ(run(&source, "", &origin, next), 0);
		CHECK_EQ(source.result, 0);
		CHECK(goes_on(history, length, &source));
		snapshot_destroy(&origin);
		close(file);
		file = next;
	}
	close(file);
}

static void expect_refusal(int file, const struct snapshot_layout *layout, uint64_t memory, const char *word)
{
	struct snapshot_origin origin;
	struct err err = {0};
	int ret = snapshot_read(file, layout, memory, 0, false, &origin, &err);
	if (ret == 0) {
		ret = run(&copy, "", &origin, -1);
		err = copy.err;
		snapshot_destroy(&origin);
	}
	CHECK(ret < 0);
	if (!strstr(err.text, word)) {
		printf("# \"%s\" does not say \"%s\"\n", err.text, word);
		test_failed = true;
	}
}

static void a_damaged_snapshot_is_refused(void)
{
	int file = memfd_create("snapshot", MFD_CLOEXEC);
	REQUIRE(run(&source, "payload=count", NULL, file) == 0 && source.result == 0);
	struct snapshot_layout good = source.layout, bad = good;
	bad.state_size = 8;
	expect_refusal(file, &bad, 64u << 20, "too short");
	bad = good;
	bad.state_size -= 8;
	expect_refusal(file, &bad, 64u << 20, "wrong size");
	bad = good;
	bad.data_size += SNAPSHOT_PAGE;
	expect_refusal(file, &bad, 64u << 20, "beyond the end");
	bad = good;
	bad.extent_count--;
	expect_refusal(file, &bad, 64u << 20, "no extent has");
	expect_refusal(file, &good, 32u << 20, "another machine");
	uint32_t version = 99;
	CHECK_EQ(pwrite(file, &version, sizeof(version), SNAPSHOT_HEAD_SIZE + 4), (ssize_t)sizeof(version));
	expect_refusal(file, &good, 64u << 20, "another version");
	uint32_t magic = 0;
	CHECK_EQ(pwrite(file, &magic, sizeof(magic), SNAPSHOT_HEAD_SIZE), (ssize_t)sizeof(magic));
	expect_refusal(file, &good, 64u << 20, "no head");
	CHECK_EQ(ftruncate(file, (off_t)(good.data_offset + good.data_size - 1)), 0);
	expect_refusal(file, &good, 64u << 20, "beyond the end");
	close(file);
}

/* Of the size that its head says, but with bytes behind that no device has saved. */
static void a_state_with_more_is_refused(void)
{
	enum { MORE_SIZE = 28 }; /* where it is in the head */
	struct snapshot_origin origin;
	const uint32_t more = 8;
	int file = memfd_create("snapshot", MFD_CLOEXEC);
	REQUIRE(run(&source, "payload=count", NULL, file) == 0 && source.result == 0);
	REQUIRE(restore(&origin, file, &source.layout) == 0);
	uint8_t *state = realloc(origin.state, origin.state_size + more);
	REQUIRE(state);
	memset(state + origin.state_size, 0, more);
	memcpy(state + MORE_SIZE, &more, sizeof(more));
	origin.state = state;
	origin.state_size += more;
	CHECK(run(&copy, "", &origin, -1) < 0);
	CHECK(strstr(copy.err.text, "wrong size"));
	snapshot_destroy(&origin);
	close(file);
}

/* Whatever the bytes of a vCPU and a device are: the machine is refused, or runs and can be ended. */
static void an_altered_state_harms_nobody(void)
{
	int file = memfd_create("snapshot", MFD_CLOEXEC);
	REQUIRE(run(&source, "payload=count", NULL, file) == 0 && source.result == 0);
	size_t altered = arch_vcpu_state_size() + sizeof(struct virtio_state);
	unsigned refused = 0, ran = 0;
	uint32_t seed = 1;
	for (unsigned i = 0; i < 40; i++) {
		struct snapshot_origin origin;
		REQUIRE(restore(&origin, file, &source.layout) == 0);
		for (unsigned j = 0; j < 1 + i; j++) {
			seed = seed * 1664525u + 1013904223u;
			((uint8_t *)origin.state)[origin.state_size - 1 - seed % altered] = (uint8_t)(seed >> 24);
		}
		if (run_for(20, &copy, "", &origin, -1) == 0)
			ran++;
		else
			refused++;
		snapshot_destroy(&origin);
	}
	printf("# %u refused, %u accepted\n", refused, ran);
	CHECK(refused + ran == 40);
	close(file);
}

static void nothing_is_left_behind(void)
{
	int before = dup(0);
	close(before);
	clones_go_on_where_the_snapshot_was();
	int after = dup(0);
	close(after);
	CHECK_EQ(after, before);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	        {"a_machine_goes_on_after_a_snapshot", a_machine_goes_on_after_a_snapshot},
	        {"clones_go_on_where_the_snapshot_was", clones_go_on_where_the_snapshot_was},
	        {"prefetched_memory_is_the_machines_own", prefetched_memory_is_the_machines_own},
	        {"ten_generations_count_without_a_gap", ten_generations_count_without_a_gap},
	        {"a_damaged_snapshot_is_refused", a_damaged_snapshot_is_refused},
	        {"a_state_with_more_is_refused", a_state_with_more_is_refused},
	        {"an_altered_state_harms_nobody", an_altered_state_harms_nobody},
	        {"nothing_is_left_behind", nothing_is_left_behind},
	};
	const char *path = getenv("PAYLOAD");
	if (path)
		payload_path = path;
	if (access("/dev/kvm", R_OK | W_OK) != 0) {
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
			printf("skip snapshot/%s: no /dev/kvm\n", cases[i].name);
		return 0;
	}
	return test_main("snapshot", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
