/* SPDX-License-Identifier: Apache-2.0 */
/* wisp ls, wisp inspect and wisp sessions. */
#include <string.h>
#include <time.h>

#include "vmm/cli/json.h"
#include "vmm/cli/ports.h"
#include "vmm/cli/verbs.h"

struct ls_options {
	bool quiet, running, json;
};

static const char *state_name(const struct wisp_sandbox_info *info)
{
	switch (info->state) {
	case WISP_SANDBOX_BOOTING: return "booting";
	case WISP_SANDBOX_RUNNING: return "running";
	case WISP_SANDBOX_STALE: return "dead";
	case WISP_SANDBOX_PAUSED: return "paused";
	case WISP_SANDBOX_TEMPLATE: return "template";
	default: return "stopped";
	}
}

static void print_jail(struct cli_json *json, unsigned holds)
{
	cli_json_open(json, "jail", '{');
	for (unsigned layer = 1; layer & WISP_LAYER_ALL; layer <<= 1)
		cli_json_bool(json, wisp_get_layer_name((enum wisp_jail_layer)layer), holds & layer);
	cli_json_close(json, '}');
}

static void print_folders(struct cli_json *json, const struct wisp_folder *const *folders)
{
	cli_json_open(json, "folders", '[');
	for (size_t i = 0; folders[i]; i++) {
		cli_json_open(json, NULL, '{');
		cli_json_string(json, "path", folders[i]->path);
		cli_json_string(json, "guest", folders[i]->guest);
		cli_json_bool(json, "read_only", folders[i]->read_only);
		cli_json_string(json, "uid", folders[i]->owners == WISP_OWNERS_MAP ? "map" : "squash");
		cli_json_string(json, "cache", folders[i]->cache == WISP_FOLDER_ALWAYS ? "always" : "auto");
		cli_json_close(json, '}');
	}
	cli_json_close(json, ']');
}

/* `ports`: NULL where they were not asked for. */
static void print_json(struct cli_json *json, const struct wisp_sandbox_info *info, struct wisp_port_info *const *ports)
{
	cli_json_open(json, NULL, '{');
	cli_json_string(json, "name", info->name);
	cli_json_string(json, "state", state_name(info));
	if (info->state == WISP_SANDBOX_STOPPED)
		cli_json_string(json, "end", wisp_get_end_name(info->end));
	if (info->state == WISP_SANDBOX_STOPPED || info->end_text[0])
		cli_json_string(json, "end_text", info->end_text);
	if (info->pid > 0)
		cli_json_number(json, "pid", info->pid);
	cli_json_number(json, "cpus", info->cpus);
	cli_json_number(json, "memory_mib", info->memory_mib);
	cli_json_string(json, "image", info->image);
	cli_json_bool(json, "writable", info->writable);
	cli_json_bool(json, "detached", info->detach);
	cli_json_bool(json, "keep", info->keep);
	cli_json_time(json, "created", info->created_ns);
	cli_json_string(json, "hostname", info->hostname);
	cli_json_string(json, "workdir", info->workdir);
	cli_json_string(json, "user", info->user);
	cli_json_string(json, "shell", info->shell);
	cli_json_strings(json, "env", info->env);
	if (info->allow[0])
		cli_json_strings(json, "allow", info->allow);
	if (info->secrets[0])
		cli_json_strings(json, "secrets", info->secrets);
	if (info->jail_layers)
		print_jail(json, info->jail_layers);
	if (info->engine != WISP_ENGINE_AUTO)
		cli_json_string(json, "engine", info->engine == WISP_ENGINE_EPOLL ? "epoll" : "io_uring");
	if (info->net[0])
		cli_json_string(json, "net", info->net);
	if (info->folders[0])
		print_folders(json, info->folders);
	if (info->max_duration_ms > 0)
		cli_json_number(json, "max_duration_ms", info->max_duration_ms);
	if (info->idle_timeout_ms > 0)
		cli_json_number(json, "idle_timeout_ms", info->idle_timeout_ms);
	cli_json_string(json, "dir", info->dir);
	if (ports)
		cli_json_ports(json, "ports", ports);
	cli_json_close(json, '}');
}

/* A short duration, such as "3 min". */
static void print_age(char *to, size_t size, int64_t since_ns)
{
	static const struct {
		int64_t seconds;
		const char *name;
	} units[] = {{86400, "d"}, {3600, "h"}, {60, "min"}, {1, "s"}};
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	int64_t age = now.tv_sec - since_ns / 1000000000;
	if (age < 0)
		age = 0;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (age >= 2 * units[i].seconds || units[i].seconds == 1) {
			snprintf(to, size, "%lld %s", (long long)(age / units[i].seconds), units[i].name);
			return;
		}
	}
}

static void print_row(const struct wisp_sandbox_info *info)
{
	char state[48], age[32];
	const char *image = info->image[0] ? info->image : "(default)";
	if (info->state == WISP_SANDBOX_STOPPED)
		snprintf(state, sizeof(state), "stopped (%s)", wisp_get_end_name(info->end));
	else
		snprintf(state, sizeof(state), "%s", state_name(info));
	print_age(age, sizeof(age), info->created_ns);
	printf("%-24s %-22s %4u %7u  %-8s ", info->name, state, info->cpus, info->memory_mib, age);
	cli_print_text(image, strlen(image), stdout);
	putchar('\n');
}

static int ls(const struct cli_call *call)
{
	const struct ls_options *options = call->options;
	struct wisp_sandbox_info **list;
	struct wisp_error error;
	struct cli_json json = {.to = stdout};
	if (wisp_list_sandboxes(call->places->state_root, &list, &error) < 0)
		return cli_fail_error(&error);
	if (options->json)
		cli_json_open(&json, NULL, '[');
	else if (!options->quiet)
		printf("%-24s %-22s %4s %7s  %-8s %s\n", "NAME", "STATE", "CPUS", "MEM MiB", "AGE", "IMAGE");
	for (size_t i = 0; list[i]; i++) {
		if (options->running && list[i]->state != WISP_SANDBOX_RUNNING)
			continue;
		if (options->json)
			print_json(&json, list[i], NULL);
		else if (options->quiet)
			printf("%s\n", list[i]->name);
		else
			print_row(list[i]);
	}
	if (options->json) {
		cli_json_close(&json, ']');
		putchar('\n');
	}
	wisp_free_sandbox_list(list);
	return 0;
}

/* Only the monitor knows them: NULL if it does not run, or has just ended. */
static struct wisp_port_info **find_ports(const char *state_root, const struct wisp_sandbox_info *info)
{
	struct wisp_sandbox *sandbox;
	struct wisp_port_info **list = NULL;
	bool runs = info->state == WISP_SANDBOX_RUNNING || info->state == WISP_SANDBOX_PAUSED;
	if (!runs || wisp_open_sandbox(state_root, info->name, &sandbox, NULL) < 0)
		return NULL;
	wisp_list_ports(sandbox, &list, NULL);
	wisp_close_sandbox(sandbox);
	return list;
}

static int inspect(const struct cli_call *call)
{
	struct wisp_sandbox_info *info;
	struct wisp_error error;
	struct cli_json json = {.to = stdout};
	if (wisp_inspect_sandbox(call->places->state_root, call->operands[0], &info, &error) < 0)
		return cli_fail_error(&error);
	struct wisp_port_info **ports = find_ports(call->places->state_root, info);
	print_json(&json, info, ports);
	wisp_free_port_list(ports);
	putchar('\n');
	wisp_free_sandbox_info(info);
	return 0;
}

/* ---- Sessions ---- */

static void describe_state(char *to, size_t size, const struct wisp_session_info *info)
{
	if (!info->exited)
		snprintf(to, size, "running");
	else if (info->status.timed_out)
		snprintf(to, size, "timeout");
	else if (info->status.signal)
		snprintf(to, size, "signal %d", info->status.signal);
	else
		snprintf(to, size, "exited %d", info->status.code);
}

static void print_session_row(const struct wisp_session_info *info)
{
	char state[32], age[32];
	describe_state(state, sizeof(state), info);
	print_age(age, sizeof(age), info->started_ns);
	printf("%6llu %7u  %-4s %-12s %-8s %7u  ", (unsigned long long)info->id, info->pid, info->tty ? "yes" : "no",
	        state, age, info->clients);
	for (size_t i = 0; info->argv[i]; i++) {
		if (i > 0)
			putchar(' ');
		cli_print_text(info->argv[i], strlen(info->argv[i]), stdout);
	}
	putchar('\n');
}

static void print_session_json(struct cli_json *json, const struct wisp_session_info *info)
{
	cli_json_open(json, NULL, '{');
	cli_json_number(json, "id", (int64_t)info->id);
	cli_json_number(json, "pid", info->pid);
	cli_json_bool(json, "tty", info->tty);
	cli_json_string(json, "state", info->exited ? "exited" : "running");
	if (info->exited) {
		cli_json_number(json, "code", info->status.code);
		cli_json_number(json, "signal", info->status.signal);
		cli_json_bool(json, "timed_out", info->status.timed_out);
	}
	cli_json_bool(json, "stdin_open", info->stdin_open);
	cli_json_bool(json, "has_writer", info->has_writer);
	cli_json_number(json, "clients", info->clients);
	cli_json_time(json, "started", info->started_ns);
	cli_json_strings(json, "argv", info->argv);
	cli_json_close(json, '}');
}

static int sessions(const struct cli_call *call)
{
	const struct cli_output *options = call->options;
	struct wisp_session_info **list;
	struct wisp_error error;
	struct cli_json json = {.to = stdout};
	int code = 0;
	struct wisp_sandbox *sandbox = cli_open(call, call->operands[0], &code);
	if (!sandbox)
		return code;
	if (wisp_list_sessions(sandbox, &list, &error) < 0) {
		wisp_close_sandbox(sandbox);
		return cli_fail_error(&error);
	}
	if (options->json)
		cli_json_open(&json, NULL, '[');
	else
		printf("%6s %7s  %-4s %-12s %-8s %7s  %s\n", "ID", "PID", "TTY", "STATE", "AGE", "CLIENTS", "COMMAND");
	for (size_t i = 0; list[i]; i++) {
		if (options->json)
			print_session_json(&json, list[i]);
		else
			print_session_row(list[i]);
	}
	if (options->json) {
		cli_json_close(&json, ']');
		putchar('\n');
	}
	wisp_free_session_list(list);
	wisp_close_sandbox(sandbox);
	return 0;
}

/* ---- The verbs ---- */

static const struct cli_option ls_options[] = {
        {.name = "quiet", .letter = 'q', CLI_FLAG(struct ls_options, quiet), .help = "print names only"},
        {.name = "running", CLI_FLAG(struct ls_options, running), .help = "only running sandboxes"},
        {.name = "json", CLI_FLAG(struct ls_options, json), .help = "print JSON"},
        {0},
};

static const struct cli_group ls_groups[] = {{.options = ls_options}, {0}};

const struct cli_verb cli_ls = {
        .name = "ls",
        .alias = "list",
        .synopsis = "",
        .summary = "List sandboxes",
        .groups = ls_groups,
        .options_size = sizeof(struct ls_options),
        .run = ls,
};

const struct cli_verb cli_inspect = {
        .name = "inspect",
        .synopsis = "NAME",
        .summary = "Print everything about a sandbox, as JSON",
        .details = "The output is always JSON; --json is accepted as with the other verbs.",
        .groups = cli_output_groups,
        .options_size = sizeof(struct cli_output),
        .operands = {CLI_SANDBOX},
        .least = 1,
        .most = 1,
        .run = inspect,
};

const struct cli_verb cli_sessions = {
        .name = "sessions",
        .alias = "ps",
        .synopsis = "NAME",
        .summary = "List the running and ended commands of a sandbox",
        .groups = cli_output_groups,
        .options_size = sizeof(struct cli_output),
        .operands = {CLI_SANDBOX},
        .least = 1,
        .most = 1,
        .run = sessions,
};
