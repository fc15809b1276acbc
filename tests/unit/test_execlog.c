/* SPDX-License-Identifier: Apache-2.0 */
/* exec.log: valid JSON lines, from which every byte that a program wrote can be recovered. */
#include <fcntl.h>
#include <unistd.h>

#include "vmm/shared/proto.h"
#include "tests/unit/test.h"
#include "vmm/monitor/execlog.h"

static char dir[] = "/tmp/wisp-execlog-XXXXXX";

static int dir_fd = -1;

static char *slurp(const char *name)
{
	static char text[512 * 1024];
	int fd = openat(dir_fd, name, O_RDONLY);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	return text;
}

static struct logfile open_log(uint64_t limit)
{
	struct logfile file;
	struct err err = {0};
	unlinkat(dir_fd, "exec.log", 0);
	logfile_init(&file, dir_fd, "exec.log", limit);
	if (logfile_create(&file, &err) < 0)
		printf("# %s\n", err.text);
	return file;
}

#define TIME_NS 1700000000000000042ull
#define HEAD "{\"time\":\"2023-11-14T22:13:20.000000042Z\",\"session\":7,"

static void expect(uint8_t type, const void *payload, size_t len, const char *line)
{
	struct logfile file = open_log(1 << 20);
	CHECK_EQ(execlog_write(&file, 7, TIME_NS, type, payload, len), 0);
	logfile_close(&file);
	CHECK_STR(slurp("exec.log"), line);
}

static void events_are_json_lines(void)
{
	struct proto_started started = {.session = 7, .pid = 42, .flags = PROTO_SESSION_TTY};
	expect(PROTO_STARTED, &started, sizeof(started), HEAD "\"stream\":\"started\",\"pid\":42,\"tty\":true}\n");
	struct proto_exited exited = {.code = -1, .signal = 9, .flags = PROTO_SESSION_TIMEOUT};
	expect(PROTO_EXITED, &exited, sizeof(exited),
	        HEAD "\"stream\":\"exited\",\"code\":-1,\"signal\":9,\"timeout\":true}\n");
	struct proto_dropped dropped = {.bytes = 99};
	expect(PROTO_DROPPED, &dropped, sizeof(dropped), HEAD "\"stream\":\"dropped\",\"bytes\":99}\n");
}

static void text_is_escaped_and_bytes_are_kept(void)
{
	expect(PROTO_STDOUT, "a\"\\\n\t\x7fz", 7,
	        HEAD "\"stream\":\"stdout\",\"data\":\"a\\\"\\\\\\n\\u0009\\u007fz\"}\n");
	expect(PROTO_STDOUT, "\0", 1, HEAD "\"stream\":\"stdout\",\"data_b64\":\"AA==\"}\n");
	expect(PROTO_STDOUT, "0123456\0abcdefgh", 16,
	        HEAD "\"stream\":\"stdout\",\"data_b64\":\"MDEyMzQ1NgBhYmNkZWZnaA==\"}\n");
	expect(PROTO_STDOUT, "01234567\xc3\xa9 89abcdef", 19,
	        HEAD "\"stream\":\"stdout\",\"data\":\"01234567\xc3\xa9 89abcdef\"}\n");
	expect(PROTO_STDERR, "\xc3\xa9\xf0\x9f\x98\x80", 6,
	        HEAD "\"stream\":\"stderr\",\"data\":\"\xc3\xa9\xf0\x9f\x98\x80\"}\n");
	/* Not UTF-8: a stray byte, a cut sequence, an overlong one, a surrogate, beyond U+10FFFF. */
	expect(PROTO_STDOUT, "\xff", 1, HEAD "\"stream\":\"stdout\",\"data_b64\":\"/w==\"}\n");
	expect(PROTO_STDOUT, "ab\xc3", 3, HEAD "\"stream\":\"stdout\",\"data_b64\":\"YWLD\"}\n");
	expect(PROTO_STDOUT, "\xc0\xaf", 2, HEAD "\"stream\":\"stdout\",\"data_b64\":\"wK8=\"}\n");
	expect(PROTO_STDOUT, "\xed\xa0\x80", 3, HEAD "\"stream\":\"stdout\",\"data_b64\":\"7aCA\"}\n");
	expect(PROTO_STDOUT, "\xf4\x90\x80\x80", 4, HEAD "\"stream\":\"stdout\",\"data_b64\":\"9JCAgA==\"}\n");
}

/* The largest frame, all escapes: six times its size, in one line. */
static void a_full_frame_stays_one_line(void)
{
	static uint8_t ones[PROTO_DATA_MAX];
	memset(ones, 1, sizeof(ones));
	struct logfile file = open_log(10000); /* which it exceeds: it is not parted for that */
	CHECK_EQ(execlog_write(&file, 7, TIME_NS, PROTO_STDOUT, ones, sizeof(ones)), 0);
	logfile_close(&file);
	const char *text = slurp("exec.log");
	CHECK_EQ(strlen(text), strlen(HEAD "\"stream\":\"stdout\",\"data\":\"\"}\n") + 6 * sizeof(ones));
	CHECK(strchr(text, '\n') == text + strlen(text) - 1);
}

static void lies_of_the_guest_are_refused(void)
{
	struct logfile file = open_log(1 << 20);
	CHECK_EQ(execlog_write(&file, 7, TIME_NS, PROTO_STARTED, (const uint8_t *)"abc", 3), -EPROTO);
	CHECK_EQ(execlog_write(&file, 7, TIME_NS, PROTO_FAILED, (const uint8_t *)"abc", 3), -EPROTO);
	CHECK_EQ(execlog_write(&file, 7, TIME_NS, PROTO_EXITED, NULL, 0), -EPROTO);
	CHECK_EQ(execlog_write(&file, 7, TIME_NS, 200, NULL, 0), -EPROTO);
	CHECK_EQ(execlog_write(&file, 7, UINT64_MAX, PROTO_STDOUT, (const uint8_t *)"x", 1), 0);
	logfile_close(&file);
	const char *text = slurp("exec.log");
	CHECK(strncmp(text, "{\"time\":\"2554-", 14) == 0 && strchr(text, '\n') == text + strlen(text) - 1);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	        {"events_are_json_lines", events_are_json_lines},
	        {"text_is_escaped_and_bytes_are_kept", text_is_escaped_and_bytes_are_kept},
	        {"a_full_frame_stays_one_line", a_full_frame_stays_one_line},
	        {"lies_of_the_guest_are_refused", lies_of_the_guest_are_refused},
	};
	if (!mkdtemp(dir) || (dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
		return 1;
	int ret = test_main("execlog", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
	unlinkat(dir_fd, "exec.log", 0);
	close(dir_fd);
	rmdir(dir);
	return ret;
}
