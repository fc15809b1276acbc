/* SPDX-License-Identifier: Apache-2.0 */
/* wisp snapshot. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/cli/progress.h"
#include "vmm/cli/verbs.h"

struct options {
	const char *verify;
	bool stop, compress, copy_disks, replace, quiet;
};

/* What a call that takes long reports to, and what ends it. */
struct job {
	struct progress bar;
	struct wisp_progress progress;
	struct wisp_cancel cancel;
	int signal_fd;
};

/* 0, or the exit code after a message. */
static int begin_job(struct job *job, const struct options *options)
{
	*job = (struct job){
	        .progress = {.size = sizeof(job->progress), .report = progress_report, .context = &job->bar},
	        .cancel = {.size = sizeof(job->cancel), .fd = &job->signal_fd},
	        .signal_fd = cli_open_signals(),
	};
	if (job->signal_fd < 0)
		return cli_fail("cannot make a signalfd: %s", strerror(errno));
	progress_begin(&job->bar, options->quiet, 0);
	return 0;
}

/* `r` is what the call returned. */
static int end_job(struct job *job, int r, const struct wisp_error *error)
{
	progress_end(&job->bar);
	int code = r < 0 ? cli_fail_cancelled(job->signal_fd, error) : 0;
	close(job->signal_fd);
	return code;
}

static int verify(const struct options *options)
{
	struct wisp_error error;
	struct job job;
	int code = begin_job(&job, options);
	if (code != 0)
		return code;
	struct wisp_verify_options verify = {.size = sizeof(verify), .progress = &job.progress, .cancel = &job.cancel};
	code = end_job(&job, wisp_verify_snapshot(options->verify, &verify, &error), &error);
	if (code == 0 && !options->quiet && isatty(STDOUT_FILENO)) {
		cli_print_text(options->verify, strlen(options->verify), stdout);
		fputs(": all checksums are right\n", stdout);
	}
	return code;
}

/* For people: scripts read the file's size themselves. */
static void print_result(const char *file, int64_t pause_us)
{
	struct stat st;
	if (!isatty(STDOUT_FILENO) || stat(file, &st) < 0)
		return;
	cli_print_text(file, strlen(file), stdout);
	printf(": %.1f MiB", (double)st.st_size / 1048576);
	if (pause_us > 0)
		printf("; the sandbox was paused for %.1f ms", (double)pause_us / 1000);
	putchar('\n');
}

static int save(const struct cli_call *call)
{
	const struct options *options = call->options;
	const char *file = call->operands[1];
	struct wisp_error error;
	struct job job;
	int code = 0;
	struct wisp_sandbox *sandbox = cli_open_any(call, call->operands[0], &code);
	if (!sandbox)
		return code;
	code = begin_job(&job, options);
	if (code == 0) {
		struct wisp_snapshot_options snapshot = {
		        .size = sizeof(snapshot),
		        .stop = options->stop,
		        .compress = options->compress,
		        .copy_disks = options->copy_disks,
		        .replace = options->replace,
		        .progress = &job.progress,
		        .cancel = &job.cancel,
		};
		code = end_job(&job, wisp_snapshot_sandbox(sandbox, file, &snapshot, &error), &error);
	}
	if (code == 0 && !options->quiet)
		print_result(file, options->stop ? 0 : wisp_get_pause_us(sandbox));
	wisp_close_sandbox(sandbox);
	return code;
}

static int snapshot(const struct cli_call *call)
{
	const struct options *options = call->options;
	if (options->verify && (call->operand_count > 0 || options->stop || options->compress || options->copy_disks ||
	                               options->replace))
		return cli_fail("snapshot: --verify saves no sandbox; omit NAME, FILE, --stop, --compress, "
		                "--copy-disks and --replace");
	if (options->verify)
		return verify(options);
	if (call->operand_count < 2)
		return cli_fail("snapshot: name a sandbox and a file, or a file to check with --verify");
	if (!call->operands[1][0] || strcmp(call->operands[1], "-") == 0)
		return cli_fail(
		        "snapshot: '%s' is not a file; a snapshot is written to a file with a name", call->operands[1]);
	return save(call);
}

static const struct cli_option own_options[] = {
        {.name = "stop",
                CLI_FLAG(struct options, stop),
                .help = "end the sandbox after it is saved; default: it continues"},
        {.name = "compress",
                CLI_FLAG(struct options, compress),
                .help = "compress the file with zstd; it is expanded into the cache before its first use"},
        {.name = "copy-disks",
                CLI_FLAG(struct options, copy_disks),
                .help = "copy the disks that the guest writes to, as they are at the moment of the snapshot, to "
                        "FILE.disk0 and so on"},
        {.name = "replace",
                CLI_FLAG(struct options, replace),
                .help = "replace FILE if it exists and is a snapshot; default: refuse"},
        {.name = "verify",
                .value = "PATH",
                CLI_TEXT(struct options, verify),
                .help = "save nothing, but read this snapshot file whole and compare it with its checksums"},
        {.name = "quiet",
                .letter = 'q',
                CLI_FLAG(struct options, quiet),
                .help = "show neither a progress bar nor the result"},
        {0},
};

static const struct cli_group groups[] = {{.options = own_options}, {0}};

const struct cli_verb cli_snapshot = {
        .name = "snapshot",
        .synopsis = "NAME FILE",
        .summary = "Save a running sandbox in a file, from which others start",
        .details = "wisp run --from FILE and wisp create --from FILE start sandboxes that continue from where this one "
                   "was. The sandbox is paused while its memory is written, and then continues. If anything fails, no "
                   "file is left, and the sandbox continues.\n\n"
                   "FILE has everything that was in the sandbox's memory, secrets too. It has mode 0600, and works on "
                   "hosts with the same kind of processor and the same version of wisp. A sandbox that writes to disks "
                   "can be saved only with --stop or --copy-disks. On a terminal, wisp prints the file's size and how "
                   "long the sandbox was paused.\n\n"
                   "  wisp snapshot box box.snap\n"
                   "  wisp run --from box.snap -- ps\n"
                   "  wisp snapshot --verify box.snap",
        .groups = groups,
        .options_size = sizeof(struct options),
        .operands = {CLI_SANDBOX, CLI_FILE},
        .most = 2,
        .run = snapshot,
};
