/* SPDX-License-Identifier: Apache-2.0 */
/* wisp bench: what is to be measured, with which configurations, and where the results go. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "vmm/bench/bench.h"

struct kind {
	const char *name;
	int (*run)(struct bench *bench);
	size_t runs, warmup; /* by default */
	bool stages, configs, peers, devices;
};

static const struct kind kinds[] = {
        {"boot", bench_run_boot, 10, 1, true, false, true, false},
        {"compare", bench_run_boot, 20, 1, true, true, false, false},
        {"floor", bench_run_floor, 100, 3, true, false, true, false},
        {"exec", bench_run_exec, 100, 3, false, false, false, false},
        {"density", bench_run_density, 8, 1, false, false, false, false},
        {"blk", bench_run_blk, 10, 1, false, false, true, true},
        {"vsock", bench_run_vsock, 10, 1, false, false, true, true},
};

uint64_t bench_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

bool bench_poll_signal(struct bench *bench, int ms)
{
	struct signalfd_siginfo info;
	struct pollfd pfd = {.fd = bench->signal_fd, .events = POLLIN};
	if (!bench->interrupted && poll(&pfd, 1, ms) > 0 && read(bench->signal_fd, &info, sizeof(info)) == sizeof(info))
		bench->interrupted = (int)info.ssi_signo;
	return bench->interrupted;
}

void bench_progress(const struct bench *bench, const char *what, size_t done, size_t all)
{
	(void)bench;
	if (!isatty(STDERR_FILENO))
		return;
	if (done < all)
		fprintf(stderr, "\r\033[K%s %zu of %zu", what, done + 1, all);
	else
		fputs("\r\033[K", stderr);
}

void bench_fail_run(struct bench_config *config, size_t run, const char *text)
{
	if (config->failures++ == 0)
		snprintf(config->failure, sizeof(config->failure), "%s", text);
	cli_fail("run %zu%s%s failed: %s", run, config->label[0] ? " of " : "", config->label, text);
}

struct bench_metric *bench_add_metric(
        struct bench *bench, const char *name, const char *unit, const char *what, size_t count)
{
	struct bench_metric *metric = &bench->metric[bench->metric_count];
	bool peer = bench->args->bench.peer;
	int64_t *values = calloc(count, (peer ? 2 : 1) * sizeof(*values));
	if (bench->metric_count == BENCH_METRICS_MAX || !values) {
		free(values);
		return NULL;
	}
	*metric = (struct bench_metric){
	        .unit = unit, .what = what, .per = "", .values = values, .peer = peer ? values + count : NULL};
	snprintf(metric->name, sizeof(metric->name), "%s", name);
	bench->metric_count++;
	return metric;
}

/* ---- Configurations ---- */

static const struct cli_option *const config_options[] = {cli_machine_options, cli_bench_config_options, NULL};

int bench_split_words(char *text, char **words, int most)
{
	int count = 0;
	while (*text) {
		text += strspn(text, " \t\n");
		if (!*text || count == most)
			break;
		char *to = text, quote = '\0';
		words[count++] = to;
		for (; *text && (quote || !strchr(" \t\n", *text)); text++) {
			if (quote ? *text == quote : *text == '\'' || *text == '"')
				quote = quote ? '\0' : *text;
			else
				*to++ = *text;
		}
		if (*text)
			text++;
		*to = '\0';
	}
	return count;
}

/* What a configuration does not say of itself is as all are. */
static void inherit(struct cli_args *to, const struct cli_args *from)
{
	if (to->operand_count == 0) {
		to->operands = from->operands;
		to->operand_count = from->operand_count;
	}
	if (to->disk_count == 0) {
		to->disks = from->disks;
		to->disk_count = from->disk_count;
	}
#define OR(field) to->field = to->field ? to->field : from->field
	OR(cpus);
	OR(memory_mib);
	OR(kernel);
	OR(kernel_args);
	OR(initramfs);
	OR(helper);
	OR(overlay);
	OR(hostname);
	OR(shell);
	OR(boot_timeout_ms);
	OR(grace_ms);
	OR(bench.symbols);
	OR(command);
#undef OR
	to->writable |= from->writable;
	to->console |= from->console;
	to->bench.untraced |= from->bench.untraced;
}

static struct bench_config *add_config(struct bench *bench, const char *label, const char *words)
{
	if (bench->config_count == BENCH_CONFIGS_MAX) {
		cli_fail("bench: at most %u configurations", BENCH_CONFIGS_MAX);
		return NULL;
	}
	struct bench_config *config = &bench->config[bench->config_count++];
	snprintf(config->label, sizeof(config->label), "%s", label);
	snprintf(config->words, sizeof(config->words), "%s", words);
	return config;
}

/* `words` is parsed like a command line. What that makes lives as long as the process, as its arguments do. */
static int add_parsed(struct bench *bench, const struct cli_args *base, const char *label, const char *words)
{
	static const struct cli_verb verb = {
	        .name = "bench", .synopsis = "[IMAGE]", .options = config_options, .most = 1};
	char *argv[BENCH_WORDS_MAX + 2] = {NULL}, *copy = strdup(words);
	struct bench_config *config = add_config(bench, label, words);
	if (!config || !copy)
		return CLI_EXIT_FAILED;
	int argc = 1 + bench_split_words(copy, argv + 1, BENCH_WORDS_MAX), code;
	if ((code = cli_parse(&verb, argc, argv, &config->args)) != 0)
		return code;
	inherit(&config->args, base);
	return 0;
}

/* "vcpus=1,2,4" */
static int add_sweep(struct bench *bench, const struct cli_args *base)
{
	const char *sweep = base->bench.sweep, *equals = strchr(sweep, '=');
	char why[CLI_WHY_SIZE] = "", value[24], label[64];
	size_t name = equals ? (size_t)(equals - sweep) : 0;
	bool vcpus = name == 5 && strncmp(sweep, "vcpus", 5) == 0;
	if (!vcpus && !(name == 6 && strncmp(sweep, "memory", 6) == 0))
		return cli_fail("--sweep '%s': write vcpus=1,2,4 or memory=128,256,1G", sweep);
	for (const char *at = equals + 1;; at++) {
		size_t length = strcspn(at, ",");
		uint64_t count = 0;
		uint32_t mib = 0;
		snprintf(value, sizeof(value), "%.*s", (int)length, at);
		if (vcpus ? !cli_parse_count(value, WISP_CPUS_MAX, &count, why) || count == 0
		          : !cli_parse_memory(value, &mib, why))
			return cli_fail("--sweep '%s': '%s': %s", sweep, value, why[0] ? why : "give 1 or more");
		snprintf(label, sizeof(label), "%.*s=%s", (int)name, sweep, value);
		struct bench_config *config = add_config(bench, label, label);
		if (!config)
			return CLI_EXIT_FAILED;
		config->args = *base;
		if (vcpus)
			config->args.cpus = (uint32_t)count;
		else
			config->args.memory_mib = mib;
		at += length;
		if (!*at)
			return 0;
	}
}

static int add_configs(struct bench *bench, const struct kind *kind)
{
	const struct cli_args *args = bench->args;
	struct cli_args base = *args;
	base.operands++;
	base.operand_count--;
	if (kind->configs != (args->bench.a || args->bench.b))
		return kind->configs ? cli_fail("bench compare: say what differs with --a or --b, or both, as in "
		                                "--a '-m 128' --b '-m 1G'")
		                     : cli_fail("bench %s: --a and --b are of wisp bench compare", kind->name);
	if (args->bench.sweep && strcmp(kind->name, "boot") != 0)
		return cli_fail("bench %s: --sweep is of wisp bench boot", kind->name);
	if (args->bench.stream_mib && strcmp(kind->name, "exec") != 0)
		return cli_fail("bench %s: --stream is of wisp bench exec", kind->name);
	if (args->bench.cycles && strcmp(kind->name, "vsock") != 0)
		return cli_fail("bench %s: --cycles is of wisp bench vsock", kind->name);
	if (!kind->peers && args->bench.peer)
		return cli_fail("bench %s: --peer is of wisp bench boot, floor, blk and vsock", kind->name);
	if (!kind->devices && (args->bench.peer_cid || args->bench.overwrite))
		return cli_fail("bench %s: --peer-cid and --overwrite are of wisp bench vsock and blk", kind->name);
	if (args->bench.peer && (args->bench.sweep || args->bench.untraced || args->bench.symbols))
		return cli_fail("bench %s: what is measured beside a peer is always the same: leave --sweep, "
		                "--untraced and --symbols",
		        kind->name);
	if (kind->devices && args->bench.cold)
		return cli_fail("bench %s: its sandbox is running: leave --cold", kind->name);
	if (args->bench.sweep)
		return add_sweep(bench, &base);
	if (kind->configs) {
		int code = add_parsed(bench, &base, "a", args->bench.a ? args->bench.a : "");
		return code ? code : add_parsed(bench, &base, "b", args->bench.b ? args->bench.b : "");
	}
	struct bench_config *config = add_config(bench, kind->name, "");
	config->args = base;
	return 0;
}

/* ---- Outputs: opened before anything is measured ---- */

static int open_output(struct bench *bench, const char *path, FILE **file)
{
	if (!path)
		return 0;
	*file = strcmp(path, "-") == 0 ? stdout : fopen(path, "we");
	if (!*file)
		return cli_fail("bench: cannot write %s: %s", path, strerror(errno));
	if (*file == stdout && bench->text == stderr)
		return cli_fail("bench: only one of the outputs can be standard output");
	if (*file == stdout)
		bench->text = stderr;
	return 0;
}

static int open_outputs(struct bench *bench, const struct kind *kind)
{
	const struct cli_args *args = bench->args;
	int code;
	bench->text = stdout;
	if (!kind->stages && (args->bench.svg || args->bench.perfetto))
		return cli_fail(
		        "bench %s: --svg and --perfetto draw stages, which boot, compare and floor have", kind->name);
	if (kind->run == bench_run_floor && args->bench.peer && (args->bench.svg || args->bench.perfetto))
		return cli_fail("bench floor: beside a peer there are no stages: leave --svg and --perfetto");
	if ((code = open_output(bench, args->bench.json, &bench->json)) ||
	        (code = open_output(bench, args->bench.csv, &bench->csv)) ||
	        (code = open_output(bench, args->bench.svg, &bench->svg)))
		return code;
	return open_output(bench, args->bench.perfetto, &bench->perfetto);
}

static int write_output(
        const struct bench *bench, const char *path, FILE *file, void (*write)(const struct bench *bench, FILE *to))
{
	if (!file)
		return 0;
	write(bench, file);
	bool failed = fflush(file) != 0 || ferror(file);
	if (file != stdout)
		failed |= fclose(file) != 0;
	return failed ? cli_fail("bench: cannot write %s: %s", path, strerror(errno)) : 0;
}

static int write_outputs(const struct bench *bench)
{
	const struct cli_args *args = bench->args;
	bench_print_text(bench);
	fflush(bench->text);
	int code = write_output(bench, args->bench.json, bench->json, bench_write_json);
	code |= write_output(bench, args->bench.csv, bench->csv, bench_write_csv);
	code |= write_output(bench, args->bench.svg, bench->svg, bench_write_svg);
	return code | write_output(bench, args->bench.perfetto, bench->perfetto, bench_write_perfetto);
}

/* ---- The verb ---- */

static const struct kind *find_kind(const char *name)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strcmp(kinds[i].name, name) == 0)
			return &kinds[i];
	}
	return NULL;
}

static int prepare(struct bench *bench, const struct kind *kind)
{
	sigset_t set;
	int code = add_configs(bench, kind);
	if (code)
		return code;
	if (bench->args->bench.cold && access("/proc/sys/vm/drop_caches", W_OK) < 0)
		return cli_fail("bench: --cold drops the page cache, which only root may: %s", strerror(errno));
	if ((code = open_outputs(bench, kind)))
		return code;
	for (size_t i = 0; i < bench->config_count; i++) {
		bench->config[i].samples = calloc(bench->runs, sizeof(struct bench_sample));
		if (!bench->config[i].samples)
			return cli_fail("out of memory");
	}
	bench->manifest = bench_read_manifest(bench);
	cli_block_signals();
	sigprocmask(SIG_BLOCK, NULL, &set);
	bench->signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
	if (!bench->manifest || bench->signal_fd < 0)
		return cli_fail("bench: cannot begin: %s", strerror(errno));
	return 0;
}

int cli_bench(struct cli_args *args)
{
	const struct kind *kind = find_kind(args->operands[0]);
	if (!kind)
		return cli_fail("bench: there is no benchmark '%s': boot, compare, floor, exec, density, blk or vsock",
		        args->operands[0]);
	struct bench *bench = calloc(1, sizeof(*bench));
	if (!bench)
		return cli_fail("out of memory");
	bench->verb = kind->name;
	bench->args = args;
	bench->runs = args->bench.runs ? args->bench.runs : kind->runs;
	bench->warmup = args->bench.has_warmup ? args->bench.warmup : kind->warmup;
	int code = prepare(bench, kind);
	if (code == 0) {
		code = kind->run(bench);
		bench_progress(bench, "", 0, 0);
		size_t measured = 0;
		for (size_t i = 0; i < bench->metric_count; i++)
			measured += bench->metric[i].count + bench->metric[i].peer_count;
		for (size_t i = 0; i < bench->config_count; i++)
			measured += bench->config[i].count;
		int written = measured > 0 ? write_outputs(bench) : 0;
		code = code ? code : written;
	}
	if (bench->interrupted)
		code = CLI_EXIT_SIGNAL + bench->interrupted;
	for (size_t i = 0; i < bench->config_count; i++)
		free(bench->config[i].samples);
	for (size_t i = 0; i < bench->metric_count; i++)
		free(bench->metric[i].values);
	bench_free_manifest(bench->manifest);
	free(bench);
	return code;
}
