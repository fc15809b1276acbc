/* SPDX-License-Identifier: Apache-2.0 */
/* Every option of every verb, once. */
#include <stdlib.h>
#include <string.h>

#include "vmm/cli/cli.h"

#define FLAG(field)                                                                  \
	static bool take_##field(struct cli_args *args, const char *text, char *why) \
	{                                                                            \
		(void)text;                                                          \
		(void)why;                                                           \
		args->field = true;                                                  \
		return true;                                                         \
	}
#define TEXT(field)                                                                  \
	static bool take_##field(struct cli_args *args, const char *text, char *why) \
	{                                                                            \
		(void)why;                                                           \
		args->field = text;                                                  \
		return true;                                                         \
	}
#define DURATION(field)                                                              \
	static bool take_##field(struct cli_args *args, const char *text, char *why) \
	{                                                                            \
		return cli_parse_duration(text, &args->field, why);                  \
	}

FLAG(writable)
FLAG(console)
FLAG(remove)
FLAG(tty)
FLAG(no_tty)
FLAG(detach)
FLAG(follow)
FLAG(events)
FLAG(json)
FLAG(quiet)
FLAG(force)
FLAG(live)
FLAG(watch)
FLAG(help)
TEXT(name)
TEXT(overlay)
TEXT(hostname)
TEXT(shell)
TEXT(kernel)
TEXT(kernel_args)
TEXT(initramfs)
TEXT(helper)
TEXT(workdir)
TEXT(user)
TEXT(detach_keys)
TEXT(source)
TEXT(grep)
DURATION(boot_timeout_ms)
DURATION(grace_ms)
DURATION(timeout_ms)

static bool take_cpus(struct cli_args *args, const char *text, char *why)
{
	uint64_t value;
	if (!cli_parse_count(text, WISP_CPUS_MAX, &value, why))
		return false;
	if (value == 0) {
		snprintf(why, CLI_WHY_SIZE, "give 1 to %u", WISP_CPUS_MAX);
		return false;
	}
	args->cpus = (uint32_t)value;
	return true;
}

static bool take_memory(struct cli_args *args, const char *text, char *why)
{
	return cli_parse_memory(text, &args->memory_mib, why);
}

static bool parse_cache(const char *text, enum wisp_cache *cache, char *why)
{
	static const char *const modes[] = {
	        [WISP_CACHE_WRITEBACK] = "writeback", [WISP_CACHE_DIRECT] = "direct", [WISP_CACHE_UNSAFE] = "unsafe"};
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (strcmp(text, modes[i]) == 0) {
			*cache = (enum wisp_cache)i;
			return true;
		}
	}
	snprintf(why, CLI_WHY_SIZE, "cache is writeback, direct or unsafe");
	return false;
}

/* What follows the path, from the end: a comma that begins no option is the path's own. */
static bool take_disk(struct cli_args *args, const char *text, char *why)
{
	struct wisp_disk disk = {0};
	char *path = strdup(text), *option;
	if (!path) {
		snprintf(why, CLI_WHY_SIZE, "out of memory");
		return false;
	}
	while ((option = strrchr(path, ','))) {
		if (strcmp(option, ",ro") == 0) {
			disk.read_only = true;
		} else if (strncmp(option, ",cache=", 7) != 0) {
			break;
		} else if (!parse_cache(option + 7, &disk.cache, why)) {
			free(path);
			return false;
		}
		*option = '\0';
	}
	disk.path = path;
	args->disks[args->disk_count++] = disk;
	return true;
}

/* Without a value, the host's own, as docker does. */
static bool take_env(struct cli_args *args, const char *text, char *why)
{
	char *pair;
	const char *value = strchr(text, '=') ? NULL : getenv(text);
	if (!strchr(text, '=') && !value)
		return true;
	if (asprintf(&pair, value ? "%s=%s" : "%s", text, value) < 0) {
		snprintf(why, CLI_WHY_SIZE, "out of memory");
		return false;
	}
	args->env[args->env_count++] = pair;
	return true;
}

static bool take_rlimit(struct cli_args *args, const char *text, char *why)
{
	char *copy = strdup(text);
	if (!copy || !cli_parse_rlimit(copy, &args->rlimits[args->rlimit_count], why)) {
		free(copy);
		return false;
	}
	args->rlimit_count++;
	return true;
}

static bool take_tail(struct cli_args *args, const char *text, char *why)
{
	args->has_tail = true;
	return cli_parse_count(text, UINT64_MAX, &args->tail, why);
}

static bool take_session(struct cli_args *args, const char *text, char *why)
{
	return cli_parse_count(text, UINT64_MAX, &args->session, why);
}

/* Of wisp bench. */
#define BENCH_TEXT(option, field)                                                     \
	static bool take_##option(struct cli_args *args, const char *text, char *why) \
	{                                                                             \
		if (text[0] == '\0')                                                  \
			snprintf(why, CLI_WHY_SIZE, "it is empty");                   \
		args->bench.field = text;                                             \
		return text[0] != '\0';                                               \
	}
BENCH_TEXT(bench_json, json)
BENCH_TEXT(csv, csv)
BENCH_TEXT(svg, svg)
BENCH_TEXT(perfetto, perfetto)
BENCH_TEXT(payload, payload)
BENCH_TEXT(symbols, symbols)
BENCH_TEXT(sweep, sweep)
BENCH_TEXT(peer, peer)

static bool take_a(struct cli_args *args, const char *text, char *why)
{
	(void)why;
	args->bench.a = text;
	return true;
}

static bool take_b(struct cli_args *args, const char *text, char *why)
{
	(void)why;
	args->bench.b = text;
	return true;
}

static bool take_cold(struct cli_args *args, const char *text, char *why)
{
	(void)text;
	(void)why;
	args->bench.cold = true;
	return true;
}

static bool take_untraced(struct cli_args *args, const char *text, char *why)
{
	(void)text;
	(void)why;
	args->bench.untraced = true;
	return true;
}

static bool take_overwrite(struct cli_args *args, const char *text, char *why)
{
	(void)text;
	(void)why;
	args->bench.overwrite = true;
	return true;
}

/* 0 to 2 are not a guest's. */
static bool take_peer_cid(struct cli_args *args, const char *text, char *why)
{
	if (!cli_parse_count(text, UINT32_MAX - 1, &args->bench.peer_cid, why))
		return false;
	if (args->bench.peer_cid < 3)
		snprintf(why, CLI_WHY_SIZE, "give 3 or more");
	return args->bench.peer_cid >= 3;
}

static bool take_some(const char *text, uint64_t *value, char *why)
{
	if (!cli_parse_count(text, 100000, value, why))
		return false;
	if (*value == 0)
		snprintf(why, CLI_WHY_SIZE, "give 1 to 100000");
	return *value != 0;
}

static bool take_runs(struct cli_args *args, const char *text, char *why)
{
	return take_some(text, &args->bench.runs, why);
}

static bool take_parallel(struct cli_args *args, const char *text, char *why)
{
	return take_some(text, &args->bench.parallel, why);
}

static bool take_cycles(struct cli_args *args, const char *text, char *why)
{
	return take_some(text, &args->bench.cycles, why);
}

static bool take_stream(struct cli_args *args, const char *text, char *why)
{
	return cli_parse_memory(text, &args->bench.stream_mib, why);
}

static bool take_warmup(struct cli_args *args, const char *text, char *why)
{
	args->bench.has_warmup = true;
	return cli_parse_count(text, 100000, &args->bench.warmup, why);
}

static bool take_since(struct cli_args *args, const char *text, char *why)
{
	return cli_parse_time(text, &args->since_ns, why);
}

const struct cli_option cli_machine_options[] = {
        {"cpus", "N", "virtual CPUs; default 1", take_cpus, 'c'},
        {"memory", "SIZE", "memory: MiB, or a number and M or G; default 256", take_memory, 'm'},
        {"disk", "PATH[,ro][,cache=MODE]",
                "a further disk, /dev/vdb and so on in the guest; MODE is writeback (the default), direct (past the "
                "host's page cache) or unsafe (flushes do nothing); may be repeated",
                take_disk, 0},
        {"rw", NULL, "let the guest write to an ext4 IMAGE itself; else changes vanish with the sandbox", take_writable,
                0},
        {"overlay", "PATH", "a disk file that takes the changes to IMAGE, instead of memory", take_overlay, 0},
        {"hostname", "NAME", "the guest's host name; default: the sandbox's name", take_hostname, 0},
        {"shell", "PATH", "the shell of exec -t without a command; default /bin/sh", take_shell, 0},
        {"boot-timeout", "DURATION", "how long the guest may take to be ready; default 30s", take_boot_timeout_ms, 0},
        {"stop-grace", "DURATION", "how long it may take to stop in order; default 10s", take_grace_ms, 0},
        {"kernel", "PATH", "boot this vmlinux instead of wisp's own", take_kernel, 0},
        {"kernel-args", "ARGS", "further parameters of the guest's kernel, in one word", take_kernel_args, 0},
        {"initramfs", "PATH", "boot this initramfs instead of wisp's own", take_initramfs, 0},
        {"vmm", "PATH", "run this monitor instead of wisp's own wisp-vmm", take_helper, 0},
        {0},
};

const struct cli_option cli_name_option[] = {
        {"name", "NAME", "the sandbox's name; default: one is made up", take_name, 'n'},
        {0},
};

const struct cli_option cli_exec_options[] = {
        {"env", "NAME[=VALUE]", "set a variable; without a value, the one here; may be repeated", take_env, 'e'},
        {"workdir", "DIR", "the working directory, absolute", take_workdir, 'w'},
        {"user", "USER", "run as name, uid, name:group or uid:gid", take_user, 'u'},
        {0},
};

const struct cli_option cli_exec_only_options[] = {
        {"timeout", "DURATION", "kill the command after this long, and exit with 124; as in 30s or 1.5m",
                take_timeout_ms, 0},
        {"rlimit", "NAME=SOFT[:HARD]", "set a resource limit, as in nofile=1024; may be repeated", take_rlimit, 0},
        {0},
};

const struct cli_option cli_tty_options[] = {
        {"tty", NULL, "run on a terminal of its own, bridged to this one", take_tty, 't'},
        {"no-tty", NULL, "without one; the default", take_no_tty, 0},
        {"detach-keys", "KEYS", "what leaves the command running and returns; default ctrl-]", take_detach_keys, 0},
        {"detach", NULL, "start the command, print its session's number and return", take_detach, 'd'},
        {0},
};

const struct cli_option cli_attach_options[] = {
        {"detach-keys", "KEYS", "what leaves the session running and returns; default ctrl-]", take_detach_keys, 0},
        {"live", NULL, "begin with what comes from now on, not with the output that was retained", take_live, 0},
        {"watch", NULL, "only watch; default: type too, and watch where another client types", take_watch, 0},
        {0},
};

const struct cli_option cli_run_options[] = {
        {"console", NULL, "show what the guest's kernel says, on standard error", take_console, 0},
        {0},
};

const struct cli_option cli_create_options[] = {
        {"console", NULL, "log what the guest's kernel says from its first word on, in console.log", take_console, 0},
        {"rm", NULL, "delete its directory with the logs when it has stopped", take_remove, 0},
        {"quiet", NULL, "do not print its name", take_quiet, 'q'},
        {0},
};

const struct cli_option cli_stop_options[] = {
        {"grace", "DURATION", "how long it may take to stop in order; default: its own", take_grace_ms, 0},
        {"force", NULL, "at once, as pulling the plug does", take_force, 'f'},
        {0},
};

const struct cli_option cli_rm_options[] = {
        {"force", NULL, "stop those that run first; it is no error if there is none", take_force, 'f'},
        {0},
};

const struct cli_option cli_ls_options[] = {
        {"quiet", NULL, "names only", take_quiet, 'q'},
        {"running", NULL, "only those that run", take_live, 0},
        {0},
};

const struct cli_option cli_logs_options[] = {
        {"follow", NULL, "wait for more until the sandbox has stopped", take_follow, 'f'},
        {"since", "TIME", "from this time on: as in 10m (ago) or 2026-01-31T12:00:00Z", take_since, 0},
        {"tail", "N", "only the last N records", take_tail, 0},
        {"source", "SOURCE", "exec (the default), stdout, stderr, events, console or vmm", take_source, 0},
        {"session", "ID", "only this session's", take_session, 0},
        {"grep", "REGEX", "only records whose text matches this extended regular expression", take_grep, 0},
        {"events", NULL, "also say when sessions start and end", take_events, 0},
        {0},
};

const struct cli_option cli_cp_options[] = {
        {"quiet", NULL, "no progress bar", take_quiet, 'q'},
        {"user", "USER", "read or write as this user of the guest", take_user, 'u'},
        {0},
};

const struct cli_option cli_bench_options[] = {
        {"runs", "N", "how often; default 10 (boot, blk, vsock), 20 (compare), 100 (floor, exec), 8 (density)",
                take_runs, 'n'},
        {"warmup", "N", "runs before those that count; default 1", take_warmup, 0},
        {"cold", NULL, "drop the host's page cache before each run; needs root", take_cold, 0},
        {"a", "OPTIONS", "compare: what the first configuration has of its own, quoted as one word", take_a, 0},
        {"b", "OPTIONS", "compare: and the second; an image may be in it too", take_b, 0},
        {"sweep", "NAME=V,V...", "boot: a configuration for each value of vcpus or memory", take_sweep, 0},
        {"parallel", "N", "density: how many boot at once; default: the host's processors", take_parallel, 'j'},
        {"stream", "SIZE", "exec: how much goes through a stream in a run, as 64M, the default, or 1G", take_stream, 0},
        {"payload", "PATH", "floor: write the payload there too, for another monitor to boot", take_payload, 0},
        {"overwrite", NULL, "blk: write to the disk of --disk too, which destroys what is on it", take_overwrite, 0},
        {"peer", "COMMAND", "boot, floor, blk, vsock: measure this monitor too, in turns", take_peer, 0},
        {"peer-cid", "N", "vsock: the context id of the peer's guest; default 3", take_peer_cid, 0},
        {"cycles", "N", "vsock: so many connections in a run, in place of half a second of them", take_cycles, 0},
        {"json", "PATH", "write everything, with every sample; - is standard output, here and below", take_bench_json,
                0},
        {"csv", "PATH", "write a line for each stage of each run", take_csv, 0},
        {"svg", "PATH", "draw the median run, the spread of its stages, and the distribution", take_svg, 0},
        {"perfetto", "PATH", "write the runs as a trace for ui.perfetto.dev", take_perfetto, 0},
        {0},
};

const struct cli_option cli_bench_config_options[] = {
        {"symbols", "PATH", "the kernel's System.map; default: KERNEL.map, or System.map beside it", take_symbols, 0},
        {"untraced", NULL, "without stages inside the monitor and the guest: what tracing costs", take_untraced, 0},
        {"console", NULL, "let the guest's kernel log to a serial port", take_console, 0},
        {0},
};

const struct cli_option cli_json_option[] = {
        {"json", NULL, "print JSON", take_json, 0},
        {0},
};

/* Every verb's. */
const struct cli_option cli_help_option[] = {
        {"help", NULL, "this text", take_help, 'h'},
        {0},
};
