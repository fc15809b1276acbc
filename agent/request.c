/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define DEFAULT_TERM "xterm-256color"

struct cursor {
	uint8_t *at;
	size_t left;
};

static bool take(struct cursor *cursor, void *into, size_t size)
{
	if (cursor->left < size)
		return false;
	memcpy(into, cursor->at, size);
	cursor->at += size;
	cursor->left -= size;
	return true;
}

/* The next NUL-terminated string, or NULL. */
static char *take_string(struct cursor *cursor)
{
	uint8_t *end = memchr(cursor->at, '\0', cursor->left);
	if (!end)
		return NULL;
	char *string = (char *)cursor->at;
	cursor->left -= (size_t)(end + 1 - cursor->at);
	cursor->at = end + 1;
	return string;
}

static const char *check_fixed(const struct proto_exec *exec)
{
	if (exec->flags & ~(uint32_t)PROTO_EXEC_FLAGS)
		return "EXEC: unknown flags";
	if (exec->zero)
		return "EXEC: the zero field is not";
	if (!exec->argc)
		return "EXEC: no argv[0]";
	if (exec->rlimit_count > PROTO_RLIMITS_MAX)
		return "EXEC: too many rlimits";
	return NULL;
}

/* Fills argv and envp. NULL, or what is wrong. */
static const char *take_strings(struct agent_request *request, struct cursor *cursor)
{
	uint8_t *begin = cursor->at;
	for (uint32_t i = 0; i < request->exec.argc; i++)
		if (!(request->argv[i] = take_string(cursor)))
			return "EXEC: fewer arguments than it says";
	request->argv_bytes = (size_t)(cursor->at - begin);
	request->argv[request->exec.argc] = NULL;
	for (uint32_t i = 0; i < request->exec.envc; i++)
		if (!(request->envp[i] = take_string(cursor)))
			return "EXEC: fewer variables than it says";
	request->envp[request->exec.envc] = NULL;
	return cursor->left ? "EXEC: bytes after the last string" : NULL;
}

int agent_request_parse(struct agent_request *request, const uint8_t *payload, size_t length, const char **why)
{
	request->defaults = NULL;
	struct cursor cursor = {(uint8_t *)(uintptr_t)payload, length};
	if (!take(&cursor, &request->exec, sizeof(request->exec))) {
		*why = "EXEC: too short";
		return -EPROTO;
	}
	if ((*why = check_fixed(&request->exec)))
		return -EPROTO;
	*why = "EXEC: fewer rlimits than it says";
	for (uint32_t i = 0; i < request->exec.rlimit_count; i++)
		if (!take(&cursor, &request->rlimits[i], sizeof(request->rlimits[i])) || request->rlimits[i].zero)
			return -EPROTO;
	/* Every string has a NUL at least: what is allocated is bounded by what was received. */
	uint64_t strings = (uint64_t)request->exec.argc + request->exec.envc;
	*why = "EXEC: fewer strings than it says";
	if (strings > cursor.left)
		return -EPROTO;
	size_t pointers = (size_t)(strings + 2 + AGENT_DEFAULTS) * sizeof(char *);
	request->argv = malloc(pointers + cursor.left);
	if (!request->argv)
		return -ENOMEM;
	request->envp = request->argv + request->exec.argc + 1;
	cursor.at = memcpy((uint8_t *)request->argv + pointers, cursor.at, cursor.left);
	request->cwd = take_string(&cursor);
	request->user = request->cwd ? take_string(&cursor) : NULL;
	*why = "EXEC: cwd or user missing or too long";
	if (request->user && strlen(request->cwd) < PROTO_STRING_MAX && strlen(request->user) < PROTO_STRING_MAX)
		*why = take_strings(request, &cursor);
	if (!*why)
		return 0;
	agent_request_free(request);
	return -EPROTO;
}

void agent_request_free(struct agent_request *request)
{
	free(request->argv);
	free(request->defaults);
	request->argv = request->envp = NULL;
	request->defaults = NULL;
}

/* Only for entries that were checked to have a '='. */
static size_t name_length(const char *entry)
{
	return (size_t)(strchr(entry, '=') - entry);
}

/* By name; entries of one name in the order they were sent, which is that of their addresses. */
static int compare_entries(const void *left, const void *right)
{
	const char *a = *(char *const *)left, *b = *(char *const *)right;
	size_t a_length = name_length(a), b_length = name_length(b);
	int order = memcmp(a, b, a_length < b_length ? a_length : b_length);
	if (order)
		return order;
	if (a_length != b_length)
		return a_length < b_length ? -1 : 1;
	return a < b ? -1 : a > b;
}

static bool same_name(const char *a, const char *b)
{
	size_t length = name_length(a);
	return length == name_length(b) && memcmp(a, b, length) == 0;
}

const char *agent_request_getenv(const struct agent_request *request, const char *name)
{
	size_t length = strlen(name);
	for (char **entry = request->envp; *entry; entry++)
		if (strncmp(*entry, name, length) == 0 && (*entry)[length] == '=')
			return *entry + length + 1;
	return NULL;
}

/* 0 or -ENOMEM. */
static int add_defaults(struct agent_request *request, uint32_t count, const struct agent_user *user)
{
	const struct {
		const char *name, *value;
	} defaults[AGENT_DEFAULTS] = {
	        {"HOME", user->home},
	        {"USER", user->name},
	        {"LOGNAME", user->name},
	        {"PATH", DEFAULT_PATH},
	        {"TERM", request->exec.flags & PROTO_EXEC_TTY ? DEFAULT_TERM : NULL},
	};
	size_t room = 0;
	for (int i = 0; i < AGENT_DEFAULTS; i++)
		room += defaults[i].value ? strlen(defaults[i].name) + strlen(defaults[i].value) + 2 : 0;
	char *entry = request->defaults = malloc(room);
	if (!entry)
		return -ENOMEM;
	for (int i = 0; i < AGENT_DEFAULTS; i++) {
		if (!defaults[i].value || agent_request_getenv(request, defaults[i].name))
			continue;
		request->envp[count++] = entry;
		request->envp[count] = NULL;
		entry += sprintf(entry, "%s=%s", defaults[i].name, defaults[i].value) + 1;
	}
	return 0;
}

int agent_request_environ(struct agent_request *request, const struct agent_user *user)
{
	char **envp = request->envp;
	uint32_t count = request->exec.envc, kept = 0;
	for (uint32_t i = 0; i < count; i++)
		if (envp[i][0] == '=' || !strchr(envp[i], '='))
			return -EINVAL;
	/* Sorted, since pairwise comparison of what fits in a frame would take minutes. */
	if (count > 1)
		qsort(envp, count, sizeof(*envp), compare_entries);
	for (uint32_t i = 0; i < count; i++)
		if (i + 1 == count || !same_name(envp[i], envp[i + 1]))
			envp[kept++] = envp[i];
	envp[kept] = NULL;
	return add_defaults(request, kept, user);
}
