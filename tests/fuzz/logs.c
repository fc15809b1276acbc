/* SPDX-License-Identifier: Apache-2.0 */
/* The reader of exec.log: two files of any content, read with every option, and one line on its own. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"
#include "vmm/lib/logline.h"
#include "wisp.h"

static char root[64], box[72];

static void remove_root(void)
{
	static const char *const names[] = {"exec.log", "exec.log.1", "lock", "config"};
	char path[96];
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", box, names[i]);
		unlink(path);
	}
	rmdir(box);
	rmdir(root);
}

static void put(const char *name, const void *data, size_t size)
{
	char path[96];
	snprintf(path, sizeof(path), "%s/%s", box, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	MUST(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	close(fd);
}

static void make_box(void)
{
	static const char config[] = "wisp-sandbox 1\n";
	if (root[0])
		return;
	snprintf(root, sizeof(root), "/tmp/wisp-fuzz-logs-%d", getpid());
	snprintf(box, sizeof(box), "%s/box", root);
	MUST(mkdir(root, 0700) == 0 && mkdir(box, 0700) == 0);
	atexit(remove_root);
	put("config", config, sizeof(config) - 1);
	put("lock", "", 0);
}

/* A record holds what the header promises. */
static void check(const struct wisp_log_record *record, const struct wisp_logs_options *options)
{
	MUST(record->stream[0] && !strchr(record->line, '\n') && record->time_ns >= options->since_ns);
	MUST(options->session == 0 || record->session == options->session);
	touch(record->data, record->length + 1); /* a NUL follows */
	touch(record->line, strlen(record->line) + 1);
}

static void read_logs(const struct wisp_logs_options *options)
{
	struct wisp_logs *logs;
	struct wisp_error error;
	const struct wisp_log_record *record;
	uint64_t count = 0;
	int r;
	if (wisp_open_logs(root, "box", options, &logs, &error) < 0)
		return;
	while ((r = wisp_recv_log(logs, 0, &record, &error)) > 0) {
		check(record, options);
		count++;
	}
	MUST(r == 0 && (options->tail == 0 || count <= options->tail));
	wisp_close_logs(logs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct wisp_logs_options options = {.size = sizeof(options)};
	struct logline line = {0};
	uint8_t kind = in8(&in);
	make_box();
	options.sources = kind & 7;
	options.session = kind & 8 ? 1 : 0;
	options.tail = kind >> 4 & 3;
	options.since_ns = kind & 64 ? 1 : INT64_MIN;
	/* The bytes up to a NUL are the previous file. */
	const uint8_t *nul = in.left ? memchr(in.at, 0, in.left) : NULL;
	size_t got, older = nul ? (size_t)(nul - in.at) : 0;
	const uint8_t *first = in_piece(&in, older, &got);
	put("exec.log.1", first, got);
	put("exec.log", in.at, in.left);
	read_logs(&options);
	logline_parse((const char *)in.at, in.left, &line);
	free(line.data.text);
	return 0;
}
