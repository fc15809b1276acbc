/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cli/verbs.h"

struct options {
	bool follow, events, json;
	int64_t since_ns;
	uint64_t tail, session; /* 0: all */
	bool no_tail;           /* --tail 0: only what comes from now on */
	const char *source, *grep;
};

/* console.log, vmm.log and net.log are plain text: prints the whole file, or its last `tail` lines. */
static int print_file(const char *dir, const char *name, uint64_t tail)
{
	char path[4200], *line = NULL;
	size_t size = 0;
	uint64_t count = 0, skip = 0;
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *file = fopen(path, "re");
	if (!file)
		return cli_fail("cannot open %s: %s", path, strerror(errno));
	if (tail > 0) {
		while (getline(&line, &size, file) >= 0)
			count++;
		rewind(file);
		skip = count > tail ? count - tail : 0;
	}
	ssize_t length;
	while ((length = getline(&line, &size, file)) >= 0) {
		if (skip > 0)
			skip--;
		else
			fwrite(line, 1, (size_t)length, stdout);
	}
	free(line);
	fclose(file);
	return 0;
}

static int print_other(const struct cli_call *call, const char *name)
{
	const struct options *options = call->options;
	struct wisp_sandbox_info *info;
	struct wisp_error error;
	if (options->follow || options->json || options->session || options->since_ns || options->grep)
		return cli_fail("logs: --source %s can be combined only with --tail", options->source);
	if (wisp_inspect_sandbox(call->places->state_root, call->operands[0], &info, &error) < 0)
		return cli_fail_error(&error);
	int code = options->no_tail ? 0 : print_file(info->dir, name, options->tail);
	wisp_free_sandbox_info(info);
	return code;
}

static bool grep(const regex_t *regex, const struct wisp_log_record *record)
{
	/* REG_STARTEND: the record has a length, and may contain NUL bytes. */
	regmatch_t range = {.rm_so = 0, .rm_eo = (regoff_t)record->length};
	const union {
		const uint8_t *bytes;
		const char *text;
	} data = {.bytes = record->data};
	return regexec(regex, data.text, 1, &range, REG_STARTEND) == 0;
}

static void print_record(const struct wisp_log_record *record, bool json)
{
	if (json) {
		printf("%s\n", record->line);
	} else if (strcmp(record->stream, "stdout") == 0 || strcmp(record->stream, "stderr") == 0) {
		FILE *to = strcmp(record->stream, "stdout") == 0 ? stdout : stderr;
		fwrite(record->data, 1, record->length, to);
	} else {
		fflush(stdout);
		fprintf(stderr, "[session %llu %s: ", (unsigned long long)record->session, record->stream);
		cli_print_text((const char *)record->data, record->length, stderr);
		fputs("]\n", stderr);
	}
}

static int print_records(struct wisp_logs *logs, const struct options *options, const regex_t *regex)
{
	const struct wisp_log_record *record;
	struct wisp_error error;
	int r;
	/* To the library, 0 means all: --tail 0 asks it for the last record, and drops that. */
	if (options->no_tail && (r = wisp_recv_log(logs, 0, &record, &error)) < 0 && r != -EAGAIN)
		return cli_fail_error(&error);
	while ((r = wisp_recv_log(logs, -1, &record, &error)) > 0) {
		if (regex && !grep(regex, record))
			continue;
		print_record(record, options->json);
		if (options->follow && fflush(stdout) != 0)
			return 0; /* cli_flush reports it */
	}
	return r < 0 ? cli_fail_error(&error) : 0;
}

/* --json is for programs, which get the events too. */
static bool choose_sources(const struct options *options, unsigned *sources)
{
	const char *source = options->source ? options->source : "exec";
	*sources = WISP_LOG_STDOUT | WISP_LOG_STDERR | (options->events || options->json ? WISP_LOG_EVENTS : 0);
	if (strcmp(source, "exec") == 0)
		return true;
	*sources = strcmp(source, "stdout") == 0   ? WISP_LOG_STDOUT
	           : strcmp(source, "stderr") == 0 ? WISP_LOG_STDERR
	           : strcmp(source, "events") == 0 ? WISP_LOG_EVENTS
	                                           : 0;
	return *sources != 0;
}

static int logs(const struct cli_call *call)
{
	const struct options *options = call->options;
	struct wisp_logs_options open = {
	        .size = sizeof(open),
	        .session = options->session,
	        .since_ns = options->since_ns,
	        .follow = options->follow,
	        .tail = options->no_tail ? 1 : options->tail,
	};
	struct wisp_logs *logs;
	struct wisp_error error;
	regex_t regex;
	if (options->source && strcmp(options->source, "console") == 0)
		return print_other(call, "console.log");
	if (options->source && strcmp(options->source, "vmm") == 0)
		return print_other(call, "vmm.log");
	if (options->source && strcmp(options->source, "net") == 0)
		return print_other(call, "net.log");
	if (!choose_sources(options, &open.sources))
		return cli_fail("logs: --source '%s': write exec, stdout, stderr, events, console, vmm or net",
		        options->source);
	int r = options->grep ? regcomp(&regex, options->grep, REG_EXTENDED | REG_NEWLINE) : 0;
	if (r != 0) {
		char why[128];
		regerror(r, &regex, why, sizeof(why));
		return cli_fail("logs: --grep '%s': %s", options->grep, why);
	}
	int code;
	if (wisp_open_logs(call->places->state_root, call->operands[0], &open, &logs, &error) < 0) {
		code = cli_fail_error(&error);
	} else {
		code = print_records(logs, options, options->grep ? &regex : NULL);
		wisp_close_logs(logs);
	}
	if (options->grep)
		regfree(&regex);
	return code;
}

static bool take_tail(const struct cli_option *option, const char *text, void *to, char *why)
{
	struct options *options = to;
	(void)option;
	if (!cli_parse_count(text, UINT64_MAX, &options->tail, why))
		return false;
	options->no_tail = options->tail == 0;
	return true;
}

static const struct cli_option own_options[] = {
        {.name = "follow",
                .letter = 'f',
                CLI_FLAG(struct options, follow),
                .help = "wait for more records until the sandbox stops"},
        {.name = "since",
                .value = "TIME",
                CLI_TIME(struct options, since_ns),
                .help = "only records since this time, as in 10m (ago) or 2026-01-31T12:00:00Z"},
        {.name = "tail",
                .value = "N",
                .take = take_tail,
                .help = "only the last N records; with -f, 0 prints only new ones"},
        {.name = "source",
                .value = "SOURCE",
                CLI_TEXT(struct options, source),
                .help = "exec (the default), stdout, stderr, events, console, vmm or net (what --allow decided)"},
        {.name = "session",
                .value = "ID",
                CLI_NUMBER(struct options, session, 0, UINT64_MAX),
                .help = "only records of this session"},
        {.name = "grep",
                .value = "REGEX",
                CLI_TEXT(struct options, grep),
                .help = "only records whose text matches this extended regular expression"},
        {.name = "events", CLI_FLAG(struct options, events), .help = "also print when sessions start and end"},
        {.name = "json", CLI_FLAG(struct options, json), .help = "print JSON"},
        {0},
};

static const struct cli_group groups[] = {{.options = own_options}, {0}};

const struct cli_verb cli_logs = {
        .name = "logs",
        .synopsis = "NAME",
        .summary = "Print what the commands of a sandbox wrote",
        .details =
                "The host keeps the output of every session, up to a size limit, also after the sandbox has stopped. "
                "wisp prints the bytes as they were written, which may control your terminal; with --json, it prints "
                "one object for each record, without control characters. A record is a piece of output and may hold "
                "several lines or part of one.",
        .groups = groups,
        .options_size = sizeof(struct options),
        .operands = {CLI_SANDBOX},
        .least = 1,
        .most = 1,
        .run = logs,
};
