/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cli/egress.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool append(char ***list, size_t *count, char *text, char *why)
{
	char **grown = text ? reallocarray(*list, *count + 2, sizeof(**list)) : NULL;
	if (!grown) {
		free(text);
		return cli_refuse(why, "out of memory");
	}
	grown[(*count)++] = text;
	grown[*count] = NULL;
	*list = grown;
	return true;
}

static bool take_allow(const struct cli_option *option, const char *text, void *to, char *why)
{
	struct cli_egress *egress = to;
	(void)option;
	return append(&egress->allow, &egress->allow_count, strdup(text), why);
}

/* A rule a line; what follows a '#' is a comment. */
static bool take_allow_file(const struct cli_option *option, const char *text, void *to, char *why)
{
	struct cli_egress *egress = to;
	char *line = NULL;
	size_t size = 0;
	bool good = true;
	ssize_t read;
	FILE *file = fopen(text, "re");
	(void)option;
	if (!file)
		return cli_refuse(why, "cannot open it: %s", strerror(errno));
	while (good && (read = getline(&line, &size, file)) >= 0) {
		if (strlen(line) < (size_t)read) {
			good = cli_refuse(why, "it has a NUL byte: write a rule a line");
			break;
		}
		char *rule = line + strspn(line, " \t");
		rule[strcspn(rule, "#\r\n")] = '\0';
		for (size_t length = strlen(rule); length > 0 && strchr(" \t", rule[length - 1]);)
			rule[--length] = '\0';
		if (rule[0])
			good = append(&egress->allow, &egress->allow_count, strdup(rule), why);
	}
	if (good && ferror(file))
		good = cli_refuse(why, "cannot read it: %s", strerror(errno));
	free(line);
	fclose(file);
	return good;
}

/* NAME@HOST takes the value from the environment, where other users of the host do not see it. */
static bool take_secret(const struct cli_option *option, const char *text, void *to, char *why)
{
	struct cli_egress *egress = to;
	const char *at = strchr(text, '@'), *value;
	char *secret = NULL;
	(void)option;
	if (strchr(text, '=') || !at)
		return append(&egress->secrets, &egress->secret_count, strdup(text), why);
	char *name = strndup(text, (size_t)(at - text));
	value = name ? getenv(name) : NULL;
	if (value && asprintf(&secret, "%s=%s%s", name, value, at) < 0)
		secret = NULL;
	free(name);
	if (!value)
		return cli_refuse(why, "its value is neither given nor in the environment");
	return append(&egress->secrets, &egress->secret_count, secret, why);
}

const struct cli_option cli_egress_options[] = {
        {.name = "allow",
                .value = "RULE",
                .take = take_allow,
                .help = "let the guest reach HOST[:PORT] through a proxy of the host; HOST is a name, *.NAME, *, an "
                        "address or ADDRESS/BITS, and PORT a number or *, by default 80 and 443; may be repeated"},
        {.name = "allow-file",
                .value = "PATH",
                .take = take_allow_file,
                .help = "the same for each line of a file; # begins a comment"},
        {.name = "secret",
                .value = "NAME[=VALUE]@HOST[:PORT]",
                .take = take_secret,
                .help = "give commands a variable NAME with a placeholder, which the proxy replaces by VALUE in "
                        "headers "
                        "of plain HTTP to this host only (not of HTTPS, which needs interception of TLS); without "
                        "VALUE, wisp's own variable has it; may be repeated"},
        {0},
};

static void release(char **list)
{
	for (size_t i = 0; list && list[i]; i++)
		free(list[i]);
	free(list);
}

void cli_release_egress(void *group)
{
	struct cli_egress *egress = group;
	release(egress->allow);
	release(egress->secrets);
}

void cli_fill_egress(const struct cli_egress *egress, struct wisp_create_options *options)
{
	options->allow = (const char *const *)egress->allow;
	options->secrets = (const char *const *)egress->secrets;
}
