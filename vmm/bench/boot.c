/* SPDX-License-Identifier: Apache-2.0 */
/* boot and compare: sandboxes like those of wisp run, from the call to the library until the last process is reaped. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/bench/manifest.h"

/* Reads a file as a string. NULL with errno. */
static char *read_text(const char *path)
{
	char *text = NULL;
	size_t size = 0;
	FILE *file = fopen(path, "re");
	if (!file)
		return NULL;
	if (getdelim(&text, &size, '\0', file) < 0) {
		free(text);
		text = NULL;
	}
	fclose(file);
	return text;
}

/* Finds the stages inside the guest's kernel. Without symbols they are omitted, with a note. */
static int find_symbols(const struct bench *bench, struct bench_config *config)
{
	char kernel[PATH_MAX], path[PATH_MAX + 16], *map = NULL;
	const char *given = config->setup.symbols;
	const char *at = bench_kernel_path(bench, &config->setup, kernel, sizeof(kernel));
	if (given) {
		map = read_text(given);
		if (!map)
			return cli_fail("bench: cannot read the symbols %s: %s", given, strerror(errno));
	} else {
		char real[PATH_MAX];
		snprintf(path, sizeof(path), "%.4090s.map", at);
		map = read_text(path);
		if (!map && realpath(at, real)) {
			char *slash = strrchr(real, '/');
			*slash = '\0';
			snprintf(path, sizeof(path), "%.4090s/System.map", real);
			map = read_text(path);
		}
	}
	size_t found = map ? bench_find_breakpoints(map, &config->breakpoints) : 0;
	free(map);
	if (given && found == 0)
		return cli_fail("bench: %s holds no symbols of a kernel; give the kernel's System.map", given);
	if (found == 0)
		fprintf(stderr,
		        "wisp: note: there is no System.map next to %s; without it, or --symbols, the stages inside "
		        "the "
		        "guest's kernel are omitted\n",
		        at);
	return 0;
}

int bench_drop_caches(void)
{
	sync();
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
	bool dropped = fd >= 0 && write(fd, "3", 1) == 1;
	int saved = errno;
	if (fd >= 0)
		close(fd);
	return dropped ? 0 : -saved;
}

static int fail_text(struct wisp_error *error, int errnum, const char *text)
{
	*error = (struct wisp_error){.status = WISP_ERR_SYSTEM, .errnum = errnum};
	snprintf(error->message, sizeof(error->message), "%s", text);
	return -errnum;
}

void bench_fill_options(const struct bench *bench, const struct bench_setup *setup, struct wisp_create_options *options)
{
	cli_fill_machine(&setup->machine, bench->places, setup->image, options);
	options->console = setup->console;
}

/* Runs the first command, from its request to its end. */
static int run_command(struct bench *bench, struct wisp_sandbox *sandbox, const char *const *argv,
        struct bench_sample *sample, struct wisp_error *error)
{
	struct wisp_session *session;
	const struct wisp_event *event;
	struct wisp_exit_status status = {.code = -1};
	int r = wisp_exec_stream(sandbox, argv, NULL, &session, error);
	if (r < 0)
		return r;
	for (;;) {
		r = wisp_recv_event(session, 0, &event, error);
		if (r == -EAGAIN) {
			struct pollfd pfds[2] = {{.fd = wisp_get_session_fd(session), .events = POLLIN},
			        {.fd = bench->signal_fd, .events = POLLIN}};
			if (poll(pfds, 2, -1) > 0 && pfds[1].revents && bench_poll_signal(bench, 0))
				break;
			continue;
		}
		if (r < 0 || event->type == WISP_EVENT_DONE)
			break;
		if (event->type == WISP_EVENT_FAILED)
			r = fail_text(error, event->errnum ? event->errnum : EIO, event->message);
		if (r < 0)
			break;
		if ((event->type == WISP_EVENT_STDOUT || event->type == WISP_EVENT_STDERR) &&
		        sample->at[BENCH_FIRST_BYTE] == 0)
			sample->at[BENCH_FIRST_BYTE] = bench_now();
		if (event->type == WISP_EVENT_EXITED) {
			sample->at[BENCH_EXITED] = bench_now();
			status = event->status;
		}
	}
	wisp_close_session(session);
	if (r == 0 && !bench->interrupted && !status.success)
		return fail_text(error, EIO, "the command failed in the guest; a benchmark needs one that succeeds");
	return r;
}

/* Of a sandbox that has ended. */
static int read_trace(const char *root, const char *name, struct bench_sample *sample, struct wisp_error *error)
{
	char *text;
	int r = wisp_read_trace(root, name, &text, NULL, error);
	if (r == 0 && !bench_parse_trace(text, sample))
		r = fail_text(error, EIO, "the monitor's trace is not readable");
	wisp_free_text(text);
	return r;
}

int bench_boot_once(
        struct bench *bench, const struct bench_config *config, struct bench_sample *sample, struct wisp_error *error)
{
	static const char *const echo[] = {"echo", "first", NULL};
	const struct bench_setup *setup = &config->setup;
	struct wisp_create_options options;
	struct wisp_sandbox *sandbox;
	char name[WISP_NAME_MAX + 1];
	int r = bench->options->cold ? bench_drop_caches() : 0;
	if (r < 0)
		return fail_text(error, -r, "cannot drop the page cache");
	bench_fill_options(bench, setup, &options);
	options.trace = options.keep = !setup->untraced;
	options.breakpoints = config->breakpoints.list;
	sample->at[BENCH_CREATE] = bench_now();
	r = wisp_create_sandbox(&options, &sandbox, error);
	if (r < 0)
		return r;
	snprintf(name, sizeof(name), "%s", wisp_get_sandbox_name(sandbox));
	r = cli_wait_ready(sandbox, bench->signal_fd, error);
	if (r > 0)
		bench->interrupted = r;
	if (setup->untraced)
		sample->at[BENCH_READY] = bench_now();
	if (r == 0)
		r = run_command(bench, sandbox, setup->command ? setup->command : echo, sample, error);
	wisp_close_sandbox(sandbox);
	sample->at[BENCH_GONE] = bench_now();
	if (r == 0 && options.trace && !bench->interrupted)
		r = read_trace(options.state_root, name, sample, error);
	if (options.keep)
		wisp_remove_sandbox(options.state_root, name, NULL);
	return r > 0 ? 0 : r;
}

/* If the first run of a configuration fails, the benchmark ends. */
static int run_round(struct bench *bench, size_t round)
{
	for (size_t i = 0; i < bench->config_count && !bench_poll_signal(bench, 0); i++) {
		/* Every second round is in reverse order, so that drift affects all configurations alike. */
		struct bench_config *config = &bench->config[round % 2 ? bench->config_count - 1 - i : i];
		struct bench_sample sample = {.run = round < bench->warmup ? 0 : round - bench->warmup + 1};
		struct wisp_error error;
		int r = bench_boot_once(bench, config, &sample, &error);
		if (bench->interrupted)
			break;
		if (r < 0 && !config->booted)
			return cli_fail("bench: the first run%s%s failed: %s", config->label[0] ? " of " : "",
			        config->label, error.message);
		if (r < 0)
			bench_fail_run(config, sample.run, error.message);
		config->booted = true;
		if (r == 0 && sample.run > 0)
			config->samples[config->count++] = sample;
	}
	return 0;
}

int bench_run_boot(struct bench *bench)
{
	int code = 0;
	size_t rounds = bench->warmup + bench->runs;
	if (bench->options->peer)
		return bench_run_boot_peer(bench);
	for (size_t i = 0; i < bench->config_count && code == 0; i++) {
		if (!bench->config[i].setup.untraced)
			code = find_symbols(bench, &bench->config[i]);
	}
	for (size_t round = 0; round < rounds && code == 0 && !bench->interrupted; round++) {
		bench_progress(bench, "round", round, rounds);
		code = run_round(bench, round);
	}
	for (size_t i = 0; i < bench->config_count && code == 0; i++)
		code = bench->config[i].failures > 0 ? CLI_EXIT_FAILED : 0;
	return code;
}

struct wisp_sandbox *bench_boot_sandbox(
        struct bench *bench, const struct bench_config *config, struct wisp_error *error)
{
	struct wisp_create_options options;
	struct wisp_sandbox *sandbox;
	bench_fill_options(bench, &config->setup, &options);
	int r = wisp_create_sandbox(&options, &sandbox, error);
	if (r < 0) {
		cli_fail_error(error);
		return NULL;
	}
	r = cli_wait_ready(sandbox, bench->signal_fd, error);
	if (r == 0)
		return sandbox;
	if (r > 0)
		bench->interrupted = r;
	else
		cli_fail_error(error);
	wisp_close_sandbox(sandbox);
	return NULL;
}
