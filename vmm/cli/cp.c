/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wisp cp. Files travel as a tar archive between this process and the guest's tar. What comes from the guest is not
 * trusted (cp_receive.c). Standard input and output carry the bytes of one file.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/cli/cp.h"
#include "vmm/cli/verbs.h"

struct options {
	const char *user;
	bool quiet;
};

/* The PATH of "NAME:PATH" if NAME is a valid name of a sandbox, else NULL. "./a:b" is a file on the host. */
static const char *guest_part(const char *operand, char name[WISP_NAME_MAX + 1])
{
	size_t length = strspn(operand, "abcdefghijklmnopqrstuvwxyz0123456789_.-");
	if (operand[length] != ':' || length == 0 || length > WISP_NAME_MAX || strchr("_.-", operand[0]))
		return NULL;
	memcpy(name, operand, length);
	name[length] = '\0';
	return operand + length + 1;
}

char *cp_guest_path(const char *path)
{
	char *absolute;
	if (asprintf(&absolute, "%s%s", path[0] == '/' ? "" : "/", path) < 0)
		return NULL;
	size_t length = strlen(absolute);
	while (length > 1 && absolute[length - 1] == '/')
		absolute[--length] = '\0';
	return absolute;
}

char *cp_split(const char *path, const char **last)
{
	const char *slash = strrchr(path, '/');
	*last = slash ? slash + 1 : path;
	if (!slash)
		return strdup(".");
	return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

static int copy_in(struct copy *copy, const char *const *sources, size_t count, const char *destination)
{
	char *path = cp_guest_path(destination);
	if (!path)
		return cli_fail("out of memory");
	bool stream = strcmp(sources[0], "-") == 0;
	int code = 0, kind = stream && count == 1 ? 'n' : guest_kind(copy, path);
	bool into = kind == 'd';
	if (kind < 0)
		code = -kind;
	else if (!into && (count > 1 || (!stream && destination[0] && destination[strlen(destination) - 1] == '/')))
		code = cli_fail("%s is not a directory in the sandbox; create it first", path);
	else if (stream)
		code = cp_stream_in(copy, STDIN_FILENO, "standard input", path);
	for (size_t i = 0; i < count && code == 0 && !stream; i++)
		code = cp_send(copy, sources[i], path, into);
	free(path);
	return code;
}

static int copy_out(struct copy *copy, const char *const *sources, size_t count, const char *destination)
{
	struct stat st;
	bool stream = strcmp(destination, "-") == 0;
	bool into = !stream && stat(destination, &st) == 0 && S_ISDIR(st.st_mode);
	int code = 0;
	if (!stream && !into && (count > 1 || destination[strlen(destination) - 1] == '/'))
		return cli_fail("%s is not a directory; create it first", destination);
	for (size_t i = 0; i < count && code == 0; i++) {
		char name[WISP_NAME_MAX + 1];
		char *path = cp_guest_path(guest_part(sources[i], name));
		if (!path)
			return cli_fail("out of memory");
		code = stream ? cp_stream_out(copy, path) : cp_receive(copy, path, destination, into);
		free(path);
	}
	return code;
}

/* All sources must be on the same side, and the destination on the other. */
static int check_sides(const struct cli_call *call, char name[WISP_NAME_MAX + 1], bool *to_guest)
{
	size_t last = call->operand_count - 1, in_guest = 0;
	char first[WISP_NAME_MAX + 1] = "", each[WISP_NAME_MAX + 1];
	for (size_t i = 0; i < last; i++) {
		if (!call->operands[i][0])
			return cli_fail("cp: a path is empty");
		if (!guest_part(call->operands[i], each))
			continue;
		if (in_guest++ > 0 && strcmp(first, each) != 0)
			return cli_fail(
			        "cp: the sources are in two sandboxes, '%s' and '%s'; copy from one sandbox at a time",
			        first, each);
		strcpy(first, each);
	}
	if (!call->operands[last][0])
		return cli_fail("cp: a path is empty");
	*to_guest = guest_part(call->operands[last], name);
	if (*to_guest && in_guest == 0)
		return 0;
	if (!*to_guest && in_guest == last) {
		strcpy(name, first);
		return 0;
	}
	return cli_fail("cp: either the sources or the destination must be in a sandbox, written as NAME:PATH");
}

static int cp(const struct cli_call *call)
{
	const struct options *options = call->options;
	char name[WISP_NAME_MAX + 1], ignored[WISP_NAME_MAX + 1];
	bool to_guest = false;
	int code = check_sides(call, name, &to_guest);
	if (code != 0)
		return code;
	struct copy copy = {.user = options->user, .quiet = options->quiet};
	copy.sandbox = cli_open(call, name, &code);
	if (!copy.sandbox)
		return code;
	copy.signals = cli_open_signals();
	size_t last = call->operand_count - 1;
	if (copy.signals < 0)
		code = cli_fail("cannot wait for signals: %s", strerror(errno));
	else if (to_guest)
		code = copy_in(&copy, call->operands, last, guest_part(call->operands[last], ignored));
	else
		code = copy_out(&copy, call->operands, last, call->operands[last]);
	if (code == 0 && copy.changed)
		code = CLI_EXIT_FAILED;
	if (copy.signals >= 0)
		close(copy.signals);
	wisp_close_sandbox(copy.sandbox);
	return code;
}

static const struct cli_option own_options[] = {
        {.name = "quiet", .letter = 'q', CLI_FLAG(struct options, quiet), .help = "do not show a progress bar"},
        {.name = "user",
                .letter = 'u',
                .value = "USER",
                CLI_TEXT(struct options, user),
                .help = "read or write as this user of the guest"},
        {0},
};

static const struct cli_group groups[] = {{.options = own_options}, {0}};

const struct cli_verb cli_cp = {
        .name = "cp",
        .synopsis = "SOURCE... DESTINATION",
        .summary = "Copy files and directories into or out of a sandbox",
        .details = "NAME:PATH is a path in the sandbox NAME; any other path is on the host, and - is standard input or "
                   "output. wisp keeps modes, times, links and holes. The guest needs sh and tar, or sh and cat for -; "
                   "wisp's own image has them.\n\n"
                   "A file is replaced when its copy is complete. A destination that is a device, a FIFO or a link "
                   "to a file is written to, as cp(1) does. Inside a directory that is copied out, an existing link "
                   "is replaced, and wisp refuses to replace anything else that is not a file. wisp does not copy "
                   "sockets and devices, nor FIFOs and set-user-ID bits out of a sandbox. A file of /proc or /sys is "
                   "read to its end; a directory there is refused. If a file changes while it is copied, wisp says "
                   "so and exits with 125. A signal ends the copy, and its program in the guest, with 128 plus the "
                   "signal's number.\n\n"
                   "  wisp cp src box:/root\n"
                   "  wisp cp box:/var/log/messages .\n"
                   "  wisp cp box:/etc/passwd - | wc -l",
        .groups = groups,
        .options_size = sizeof(struct options),
        .operands = {CLI_PATH, CLI_PATH, CLI_PATH},
        .least = 2,
        .most = SIZE_MAX,
        .run = cp,
};
