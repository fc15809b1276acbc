/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of the caller's options: versions of structures, and what is refused before anything starts. */
#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "vmm/shared/proto.h"
#include "vmm/lib/lib.h"

/* Copies a structure of `given` bytes to one of `size`, zeroed first. A known part may be missing, not be unknown. */
static int copy(void *to, size_t size, const void *from, size_t given, const char *what, struct wisp_error *error)
{
	const unsigned char *bytes = from;
	if (given < sizeof(size_t) || given > 65536)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "%s: size is %zu: set it to sizeof the structure and zero the rest", what, given);
	for (size_t i = size; i < given; i++) {
		if (bytes[i] != 0)
			return lib_fail(error, WISP_ERR_INVALID, EINVAL,
			        "%s: libwisp %s does not know the option at byte %zu: use a newer libwisp", what,
			        LIB_VERSION, i);
	}
	memset(to, 0, size);
	memcpy(to, from, given < size ? given : size);
	return 0;
}

int lib_copy_options(void *to, size_t size, const void *from, const char *what, struct wisp_error *error)
{
	size_t given;
	memset(to, 0, size);
	if (from) {
		memcpy(&given, from, sizeof(given));
		int r = copy(to, size, from, given, what, error);
		if (r < 0)
			return r;
	}
	memcpy(to, &size, sizeof(size));
	return 0;
}

int lib_copy_element(
        void *to, size_t size, const void *array, size_t stride, size_t i, const char *what, struct wisp_error *error)
{
	/* The stride is checked before it is used. */
	const unsigned char *from = stride <= 65536 ? (const unsigned char *)array + i * stride : array;
	return copy(to, size, from, stride, what, error);
}

int lib_check_name(const char *name, struct wisp_error *error)
{
	if (lib_is_null(name, "name", error))
		return -EINVAL;
	size_t length = strlen(name);
	const char *why = NULL;
	if (length == 0)
		why = "it is empty";
	else if (length > WISP_NAME_MAX)
		why = "it is longer than 63 bytes";
	else if (strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_.-") != length)
		why = "it may have only a-z, 0-9, '_', '.' and '-'";
	else if (strchr("_.-", name[0]))
		why = "it must begin with a letter or a digit";
	if (!why)
		return 0;
	return lib_fail(error, WISP_ERR_INVALID, EINVAL, "'%.80s' is not a name for a sandbox: %s", name, why);
}

int lib_check_env(const char *const *env, struct wisp_error *error)
{
	for (; env && *env; env++) {
		const char *equals = strchr(*env, '=');
		size_t name_length = equals ? (size_t)(equals - *env) : strlen(*env);
		const char *why = NULL;
		if (!equals)
			why = "it has no '='";
		else if (name_length == 0)
			why = "its name is empty";
		else if (memchr(*env, '\n', name_length))
			why = "its name has a newline";
		if (why)
			return lib_fail(error, WISP_ERR_INVALID, EINVAL,
			        "'%.80s' is not an environment variable: %s: write NAME=value", *env, why);
	}
	return 0;
}

int lib_check_line(const char *text, const char *what, struct wisp_error *error)
{
	if (!text)
		return 0;
	const char *why = NULL;
	if (text[0] == '\0')
		why = "it is empty";
	else if (strlen(text) >= PROTO_STRING_MAX)
		why = "it is longer than 4095 bytes";
	else if (strchr(text, '\n'))
		why = "it has a newline";
	return why ? lib_fail(error, WISP_ERR_INVALID, EINVAL, "%s '%.80s': %s", what, text, why) : 0;
}

int lib_check_absolute(const char *path, const char *what, struct wisp_error *error)
{
	if (!path)
		return 0;
	if (path[0] != '/')
		return lib_fail(
		        error, WISP_ERR_INVALID, EINVAL, "%s '%.200s' is not absolute: begin it with '/'", what, path);
	if (strlen(path) >= PROTO_STRING_MAX)
		return lib_fail(
		        error, WISP_ERR_INVALID, ENAMETOOLONG, "%s '%.80s...' is longer than 4095 bytes", what, path);
	return 0;
}

int lib_check_duration(int64_t ms, const char *what, struct wisp_error *error)
{
	if (ms >= 0)
		return 0;
	return lib_fail(error, WISP_ERR_INVALID, EINVAL, "%s is negative: 0 is the default", what);
}

int lib_check_hostname(const char *hostname, struct wisp_error *error)
{
	if (!hostname)
		return 0;
	size_t length = strlen(hostname);
	if (length >= 1 && length <= 63 &&
	        strspn(hostname, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == length)
		return 0;
	return lib_fail(error, WISP_ERR_INVALID, EINVAL,
	        "'%.80s' is not a host name: use up to 63 letters, digits, '.', '_' and '-'", hostname);
}

int lib_rlimit_number(const char *name)
{
	static const struct {
		const char *name;
		int number;
	} limits[] = {
	        {"as", RLIMIT_AS},
	        {"core", RLIMIT_CORE},
	        {"cpu", RLIMIT_CPU},
	        {"data", RLIMIT_DATA},
	        {"fsize", RLIMIT_FSIZE},
	        {"locks", RLIMIT_LOCKS},
	        {"memlock", RLIMIT_MEMLOCK},
	        {"msgqueue", RLIMIT_MSGQUEUE},
	        {"nice", RLIMIT_NICE},
	        {"nofile", RLIMIT_NOFILE},
	        {"nproc", RLIMIT_NPROC},
	        {"rss", RLIMIT_RSS},
	        {"rtprio", RLIMIT_RTPRIO},
	        {"rttime", RLIMIT_RTTIME},
	        {"sigpending", RLIMIT_SIGPENDING},
	        {"stack", RLIMIT_STACK},
	};
	for (size_t i = 0; name && i < sizeof(limits) / sizeof(limits[0]); i++) {
		if (strcmp(limits[i].name, name) == 0)
			return limits[i].number;
	}
	return -1;
}

int lib_copy_rlimit(
        const struct wisp_exec_options *options, size_t i, struct wisp_rlimit *limit, struct wisp_error *error)
{
	return lib_copy_element(
	        limit, sizeof(*limit), options->rlimits, options->rlimit_size, i, "struct wisp_rlimit", error);
}

static int check_rlimits(const struct wisp_exec_options *options, struct wisp_error *error)
{
	if (options->rlimit_count > PROTO_RLIMITS_MAX)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL, "%zu resource limits: set at most %u",
		        options->rlimit_count, PROTO_RLIMITS_MAX);
	for (size_t i = 0; i < options->rlimit_count; i++) {
		struct wisp_rlimit limit;
		int r = lib_copy_rlimit(options, i, &limit, error);
		if (r < 0)
			return r;
		const char *name = limit.resource ? limit.resource : "";
		if (lib_rlimit_number(name) < 0)
			return lib_fail(error, WISP_ERR_INVALID, EINVAL,
			        "'%.40s' is not a resource limit: use one of as core cpu data fsize locks memlock "
			        "msgqueue nice "
			        "nofile nproc rss rtprio rttime sigpending stack",
			        name);
		if (limit.soft > limit.hard)
			return lib_fail(error, WISP_ERR_INVALID, EINVAL,
			        "resource limit %s: the soft limit %llu is above the hard limit %llu", name,
			        (unsigned long long)limit.soft, (unsigned long long)limit.hard);
	}
	return 0;
}

int lib_copy_cancel(struct lib_cancel *cancel, const struct wisp_cancel *given, const struct lib_cancel *otherwise,
        struct wisp_error *error)
{
	struct wisp_cancel copy;
	*cancel = *otherwise;
	if (!given)
		return 0;
	int r = lib_copy_options(&copy, sizeof(copy), given, "struct wisp_cancel", error);
	if (r < 0)
		return r;
	if (copy.fd && *copy.fd < 0)
		return lib_fail(error, WISP_ERR_INVALID, EBADF,
		        "%d is not a descriptor: give one that cancels, or NULL for none", *copy.fd);
	*cancel = (struct lib_cancel){
	        .has_fd = copy.fd, .fd = copy.fd ? *copy.fd : -1, .interruptible = copy.interruptible};
	return 0;
}

int lib_copy_progress(struct lib_progress *progress, const struct wisp_progress *given, struct wisp_error *error)
{
	struct wisp_progress copy;
	int r = lib_copy_options(&copy, sizeof(copy), given, "struct wisp_progress", error);
	*progress = (struct lib_progress){0};
	if (r == 0 && given)
		*progress = (struct lib_progress){.report = copy.report, .context = copy.context};
	return r;
}

int lib_check_exec_options(const struct wisp_exec_options *options, struct wisp_error *error)
{
	int r;
	if ((r = lib_check_absolute(options->cwd, "the working directory", error)) < 0 ||
	        (r = lib_check_line(options->user, "the user", error)) < 0 ||
	        (r = lib_check_env(options->env, error)) < 0 ||
	        (r = lib_check_duration(options->timeout_ms, "the timeout", error)) < 0)
		return r;
	if (options->rlimit_count > 0 && !options->rlimits)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL, "rlimit_count is set, but rlimits is NULL");
	if ((r = check_rlimits(options, error)) < 0)
		return r;
	if ((unsigned)options->stdin_mode > WISP_STDIN_PIPE)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL, "stdin_mode %d is unknown", (int)options->stdin_mode);
	if ((unsigned)options->security > WISP_SECURITY_RESTRICTED)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL, "security %d is unknown", (int)options->security);
	if (options->stdin_mode == WISP_STDIN_BYTES && options->stdin_length > 0 && !options->stdin_data)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL, "stdin_length is set, but stdin_data is NULL");
	return 0;
}
