/* SPDX-License-Identifier: Apache-2.0 */
/* wisp logs. */
#include <errno.h>
#include <fcntl.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cli/cli.h"

/* console.log and vmm.log are text as it came: they are printed, whole or their last lines. */
static int print_file(const char *dir, const char *name, const struct cli_args *args)
{
	char path[4200], *line = NULL;
	size_t size = 0;
	uint64_t count = 0, skip = 0;
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *file = fopen(path, "re");
	if (!file)
		return cli_fail("cannot open %s: %s", path, strerror(errno));
	if (args->has_tail) {
		while (getline(&line, &size, file) >= 0)
			count++;
		rewind(file);
		skip = count > args->tail ? count - args->tail : 0;
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

static int print_other(const struct cli_args *args, const char *name)
{
	struct wisp_sandbox_info *info;
	struct wisp_error error;
	if (args->follow || args->json || args->session || args->since_ns || args->grep)
		return cli_fail("logs: only --tail goes with --source %s", args->source);
	if (wisp_inspect_sandbox(cli_state_root(), args->operands[0], &info, &error) < 0)
		return cli_fail_error(&error);
	int code = print_file(info->dir, name, args);
	wisp_free_sandbox_info(info);
	return code;
}

static bool grep(const regex_t *regex, const struct wisp_log_record *record)
{
	/* REG_STARTEND: bytes with a length, NULs and all. */
	regmatch_t range = {.rm_so = 0, .rm_eo = (regoff_t)record->length};
	const union {
		const uint8_t *bytes;
		const char *text;
	} data = {.bytes = record->data};
	return regexec(regex, data.text, 1, &range, REG_STARTEND) == 0;
}

static void print_record(const struct wisp_log_record *record, const struct cli_args *args)
{
	if (args->json) {
		printf("%s\n", record->line);
	} else if (strcmp(record->stream, "stdout") == 0 || strcmp(record->stream, "stderr") == 0) {
		FILE *to = strcmp(record->stream, "stdout") == 0 ? stdout : stderr;
		fwrite(record->data, 1, record->length, to);
	} else {
		fflush(stdout);
		fprintf(stderr, "[session %llu %s: ", (unsigned long long)record->session, record->stream);
		for (size_t i = 0; i < record->length; i++)
			fputc(record->data[i] < ' ' || record->data[i] == 0x7f ? '?' : record->data[i], stderr);
		fputs("]\n", stderr);
	}
}

static int print_records(struct wisp_logs *logs, const struct cli_args *args, const regex_t *regex)
{
	const struct wisp_log_record *record;
	struct wisp_error error;
	int r;
	while ((r = wisp_recv_log(logs, -1, &record, &error)) > 0) {
		if (regex && !grep(regex, record))
			continue;
		print_record(record, args);
		if (args->follow && fflush(stdout) != 0)
			return 0; /* main says so */
	}
	return r < 0 ? cli_fail_error(&error) : 0;
}

/* --json is for programs: they get the events too. */
static bool choose_sources(const struct cli_args *args, unsigned *sources)
{
	const char *source = args->source ? args->source : "exec";
	*sources = WISP_LOG_STDOUT | WISP_LOG_STDERR | (args->events || args->json ? WISP_LOG_EVENTS : 0);
	if (strcmp(source, "exec") == 0)
		return true;
	*sources = strcmp(source, "stdout") == 0   ? WISP_LOG_STDOUT
	           : strcmp(source, "stderr") == 0 ? WISP_LOG_STDERR
	           : strcmp(source, "events") == 0 ? WISP_LOG_EVENTS
	                                           : 0;
	return *sources != 0;
}

int cli_logs(struct cli_args *args)
{
	struct wisp_logs_options options = {
	        .size = sizeof(options),
	        .session = args->session,
	        .since_ns = args->since_ns,
	        .follow = args->follow,
	        .tail = args->tail,
	};
	struct wisp_logs *logs;
	struct wisp_error error;
	regex_t regex;
	if (args->source && strcmp(args->source, "console") == 0)
		return print_other(args, "console.log");
	if (args->source && strcmp(args->source, "vmm") == 0)
		return print_other(args, "vmm.log");
	if (!choose_sources(args, &options.sources))
		return cli_fail(
		        "logs: --source '%s': write exec, stdout, stderr, events, console or vmm", args->source);
	if (args->has_tail && args->tail == 0)
		return cli_fail("logs: --tail '0': give at least 1");
	int r = args->grep ? regcomp(&regex, args->grep, REG_EXTENDED | REG_NEWLINE) : 0;
	if (r != 0) {
		char why[128];
		regerror(r, &regex, why, sizeof(why));
		return cli_fail("logs: --grep '%s': %s", args->grep, why);
	}
	int code;
	if (wisp_open_logs(cli_state_root(), args->operands[0], &options, &logs, &error) < 0) {
		code = cli_fail_error(&error);
	} else {
		code = print_records(logs, args, args->grep ? &regex : NULL);
		wisp_close_logs(logs);
	}
	if (args->grep)
		regfree(&regex);
	return code;
}
