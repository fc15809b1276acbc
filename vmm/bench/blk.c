/* SPDX-License-Identifier: Apache-2.0 */
/* blk: a disk as the guest sees it. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/bench/side.h"

#define TEMPORARY_MIB 128u

static const char *const what_read = "requests per second", *const what_bytes = "sequential";

/* Writes every block of the file: reading holes would measure nothing. */
static int make_disk(char *path, size_t size)
{
	char block[1u << 16];
	const char *tmp = getenv("TMPDIR");
	snprintf(path, size, "%s/wisp-bench-XXXXXX", tmp && tmp[0] ? tmp : "/tmp");
	int fd = mkstemp(path);
	if (fd < 0)
		return cli_fail("bench: cannot create the disk file %s: %s", path, strerror(errno));
	memset(block, 0xa5, sizeof(block));
	bool written = true;
	for (size_t i = 0; i < (TEMPORARY_MIB << 20) / sizeof(block) && written; i++)
		written = write(fd, block, sizeof(block)) == (ssize_t)sizeof(block);
	int saved = errno;
	written &= close(fd) == 0;
	if (written)
		return 0;
	unlink(path);
	return cli_fail("bench: cannot write %u MiB to the disk file %s: %s", TEMPORARY_MIB, path, strerror(saved));
}

static struct bench_metric *find_metric(struct bench *bench, const char *name)
{
	for (size_t i = 0; i < bench->metric_count; i++) {
		if (strcmp(bench->metric[i].name, name) == 0)
			return &bench->metric[i];
	}
	return NULL;
}

static int measure(struct bench *bench, struct bench_side *side, bool counts)
{
	struct bench_guest_line line = {0};
	struct bench_counts counted = {-1, -1};
	size_t done = 0, wanted = bench->metric_count / BENCH_RESULT_METRICS;
	/* The guest may end after the last operation, or not. */
	while (done < wanted && bench_read_side(bench, side, &line) && line.type != BENCH_LINE_FAIL) {
		struct bench_metric *metric = find_metric(bench, line.name);
		if (line.type == BENCH_LINE_BEGIN)
			counted = line.counts;
		if (line.type != BENCH_LINE_END || !metric)
			continue;
		done++;
		bench_set_counts(&line.result, &counted, &line.counts);
		if (counts)
			bench_add_result(metric, !side->sandbox, &line.result);
	}
	return done == wanted ? 0 : bench_fail_side(bench, side, &line);
}

static int run(struct bench *bench, struct bench_side *wisp, bool writes)
{
	const char *const words[] = {"blk", "/dev/vdb", writes ? "write" : NULL, NULL};
	for (size_t i = 0; i < BENCH_GUEST_OPS; i++) {
		const struct bench_guest_op *op = &bench_guest_ops[i];
		const char *unit = op->random ? "1/ks" : "kB/s", *what = op->random ? what_read : what_bytes;
		if ((writes || !op->write) && !bench_add_results(bench, op->name, unit, what, "request"))
			return cli_fail("out of memory");
	}
	return bench_run_sides(bench, wisp, words, measure);
}

int bench_run_blk(struct bench *bench)
{
	char path[PATH_MAX];
	struct cli_machine *machine = &bench->config[0].setup.machine;
	struct wisp_disk temporary = {.path = path};
	struct bench_side wisp;
	bool own = machine->disk_count == 0, writes = own || bench->options->overwrite;
	int code = own ? make_disk(path, sizeof(path)) : 0;
	if (code)
		return code;
	if (own) {
		machine->disks = &temporary;
		machine->disk_count = 1;
	}
	writes &= !machine->disks[0].read_only;
	machine->disks[0].read_only = !writes;
	code = bench_open_sandbox_side(bench, &wisp);
	if (own)
		unlink(path); /* the monitor has opened it */
	if (code == 0 && wisp.sandbox)
		code = run(bench, &wisp, writes);
	bench_unwatch_syscalls(&wisp.syscalls);
	wisp_close_sandbox(wisp.sandbox);
	return code;
}
