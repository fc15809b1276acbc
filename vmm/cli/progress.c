/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vmm/cli/progress.h"

#define WIDTH 30
#define EVERY_NS 100000000

static int64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static void draw(const struct progress *progress, int64_t now)
{
	char bar[WIDTH + 1];
	double seconds = (double)(now - progress->began_ns) / 1e9, mib = (double)progress->done / 1048576;
	fputc('\r', stderr);
	if (progress->total > 0) {
		uint64_t done = progress->done < progress->total ? progress->done : progress->total;
		size_t filled = (size_t)((double)done / (double)progress->total * WIDTH);
		memset(bar, ' ', WIDTH);
		memset(bar, '=', filled);
		bar[WIDTH] = '\0';
		fprintf(stderr, "[%s] %3d%% ", bar, (int)((double)done / (double)progress->total * 100));
	}
	fprintf(stderr, "%.1f MiB, %.1f MiB/s\033[K", mib, seconds > 0 ? mib / seconds : 0);
	fflush(stderr);
}

void progress_begin(struct progress *progress, bool quiet, uint64_t total)
{
	*progress = (struct progress){.on = !quiet && isatty(STDERR_FILENO), .total = total, .began_ns = now_ns()};
	progress->shown_ns = progress->began_ns;
}

static void show(struct progress *progress)
{
	if (!progress->on)
		return;
	int64_t now = now_ns();
	if (now - progress->shown_ns < EVERY_NS)
		return;
	progress->shown_ns = now;
	draw(progress, now);
}

void progress_add(struct progress *progress, uint64_t bytes)
{
	progress->done += bytes;
	show(progress);
}

void progress_report(void *context, uint64_t done, uint64_t total)
{
	struct progress *progress = context;
	progress->done = done;
	progress->total = total;
	show(progress);
}

void progress_end(struct progress *progress)
{
	if (progress->on && progress->shown_ns != progress->began_ns)
		fputs("\r\033[K", stderr);
}
