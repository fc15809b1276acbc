/* SPDX-License-Identifier: Apache-2.0 */
/* The console's copy: whoever reads it slowly, or not at all, holds nothing up. */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/unit/test.h"
#include "vmm/monitor/echo.h"

#define PATIENCE_MS 20000 /* the limit only ends a hang */

static size_t read_all(int fd, char *to, size_t size)
{
	size_t length = 0;
	ssize_t n;
	while (length < size && (n = read(fd, to + length, size - length)) > 0)
		length += (size_t)n;
	return length;
}

/* Nothing is lost while it fits: all of it is there at the end, in order. */
static void what_fits_arrives(void)
{
	static char sent[ECHO_SIZE / 2], got[ECHO_SIZE];
	struct echo *echo;
	int ends[2];
	for (size_t i = 0; i < sizeof(sent); i++)
		sent[i] = (char)('a' + i % 26);
	REQUIRE(pipe(ends) == 0 && echo_create(&echo, ends[1], NULL) == 0);
	size_t at = 0;
	/* Three times around the buffer, in odd pieces. */
	for (int round = 0; round < 6; round++) {
		for (at = 0; at < sizeof(sent);) {
			size_t piece = sizeof(sent) - at < 997 ? sizeof(sent) - at : 997;
			echo_write(echo, sent + at, piece);
			at += piece;
		}
		size_t length = 0;
		while (length < sizeof(sent)) {
			ssize_t n = read(ends[0], got + length, sizeof(sent) - length);
			REQUIRE(n > 0);
			length += (size_t)n;
		}
		CHECK(memcmp(sent, got, sizeof(sent)) == 0);
	}
	echo_write(echo, "end\n", 4);
	echo_destroy(echo, PATIENCE_MS);
	close(ends[1]);
	CHECK_EQ(read_all(ends[0], got, sizeof(got)), 4);
	close(ends[0]);
}

/* A pipe that nobody reads. The writer goes on, and so does the end; what was lost is counted. */
static void nobody_reads(void)
{
	static char text[ECHO_SIZE], got[2 * ECHO_SIZE];
	struct echo *echo;
	int ends[2];
	memset(text, 'x', sizeof(text));
	REQUIRE(pipe(ends) == 0 && echo_create(&echo, ends[1], NULL) == 0);
	int room = fcntl(ends[1], F_GETPIPE_SZ);
	for (int i = 0; i < 4; i++)
		echo_write(echo, text, sizeof(text));
	struct pollfd pfd = {.fd = ends[1], .events = POLLOUT};
	while (poll(&pfd, 1, 0) == 1) /* until the pipe is full */
		sched_yield();
	echo_destroy(echo, 0);
	/* The descriptor is still one that blocks. */
	CHECK_EQ(fcntl(ends[1], F_GETFL) & O_NONBLOCK, 0);
	close(ends[1]);
	CHECK_EQ(read_all(ends[0], got, sizeof(got)), room);
	close(ends[0]);
}

/* A reader who comes back gets the beginning whole, then a line about the gap. */
static void the_gap_is_reported(void)
{
	static char text[ECHO_SIZE], got[4 * ECHO_SIZE];
	struct echo *echo;
	int ends[2];
	size_t length = 0, lost = 0;
	memset(text, 'x', sizeof(text));
	REQUIRE(pipe(ends) == 0 && echo_create(&echo, ends[1], NULL) == 0);
	for (int i = 0; i < 4; i++)
		echo_write(echo, text, sizeof(text));
	/* Until the line comes: it does when there is room again and more to say. */
	while (!strstr(got, "lost here]\n") && length + 1 < sizeof(got)) {
		struct pollfd pfd = {.fd = ends[0], .events = POLLIN};
		ssize_t n = poll(&pfd, 1, 1) > 0 ? read(ends[0], got + length, sizeof(got) - 1 - length) : 0;
		length += (size_t)n;
		if (n == 0)
			echo_write(echo, "more\n", 5);
	}
	const char *note = strstr(got, "\n[");
	REQUIRE(note && sscanf(note, "\n[%zu bytes of the console were lost here]\n", &lost) == 1);
	size_t whole = strspn(got, "x");
	CHECK_EQ(note - got, whole);
	CHECK(whole >= ECHO_SIZE - 4096 && lost >= 4 * sizeof(text) - whole);
	echo_destroy(echo, PATIENCE_MS);
	close(ends[0]);
	close(ends[1]);
}

static void the_reader_leaves(void)
{
	struct echo *echo;
	int ends[2];
	REQUIRE(pipe(ends) == 0 && signal(SIGPIPE, SIG_IGN) != SIG_ERR);
	close(ends[0]);
	REQUIRE(echo_create(&echo, ends[1], NULL) == 0);
	for (int i = 0; i < 1000; i++)
		echo_write(echo, "gone\n", 5);
	echo_destroy(echo, PATIENCE_MS);
	close(ends[1]);
}

/* The owner's descriptor may be one that does not block. */
static void a_descriptor_that_does_not_block(void)
{
	static char text[ECHO_SIZE / 2], got[ECHO_SIZE];
	struct echo *echo;
	int ends[2];
	memset(text, 'x', sizeof(text));
	REQUIRE(pipe2(ends, O_NONBLOCK) == 0 && echo_create(&echo, ends[1], NULL) == 0);
	echo_write(echo, text, sizeof(text));
	size_t length = 0;
	while (length < sizeof(text)) {
		struct pollfd pfd = {.fd = ends[0], .events = POLLIN};
		REQUIRE(poll(&pfd, 1, PATIENCE_MS) == 1);
		ssize_t n = read(ends[0], got, sizeof(got));
		REQUIRE(n > 0);
		length += (size_t)n;
	}
	CHECK_EQ(length, sizeof(text));
	echo_destroy(echo, PATIENCE_MS);
	close(ends[0]);
	close(ends[1]);
}

TEST_MAIN("echo", {"what_fits_arrives", what_fits_arrives}, {"nobody_reads", nobody_reads},
        {"the_gap_is_reported", the_gap_is_reported}, {"the_reader_leaves", the_reader_leaves},
        {"a_descriptor_that_does_not_block", a_descriptor_that_does_not_block})
