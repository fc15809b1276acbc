/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/lib/egress.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/lib/launch.h"
#include "vmm/lib/sandbox.h"
#include "vmm/shared/egress.h"

/* ---- The rules ---- */

static size_t count_of(const char *const *list)
{
	size_t count = 0;
	while (list && list[count])
		count++;
	return count;
}

static int add_rule(struct egress *egress, const char *text, struct wisp_error *error)
{
	struct egress_rule rule;
	const char *why;
	if (!egress_parse_rule(text, &rule, &why))
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "the guest cannot be allowed to reach '%.300s': it %s: write HOST[:PORT]", text, why);
	lib_string_format(&egress->rules, "allow %s\n", text);
	return 0;
}

/* The value is in no message and no file. */
static int add_secret(struct egress *egress, size_t i, const char *text, struct wisp_error *error)
{
	struct egress_secret *secret = malloc(sizeof(*secret));
	const char *why;
	int r = secret ? 0 : lib_no_memory(error);
	if (r == 0 && !egress_parse_secret(text, secret, &why))
		r = lib_fail(error, WISP_ERR_INVALID, EINVAL, "the secret '%.*s' cannot be used: it %s",
		        (int)strcspn(text, "=@"), text, why);
	if (r == 0) {
		lib_string_format(&egress->rules, "secret %s\n", text);
		if (asprintf(&egress->secrets[i], "%s%s", secret->name, strrchr(text, '@')) < 0) {
			egress->secrets[i] = NULL;
			r = lib_no_memory(error);
		}
	}
	free(secret);
	return r;
}

static int fill(struct egress *egress, const struct wisp_create_options *options, struct wisp_error *error)
{
	size_t count = count_of(options->allow), secrets = count_of(options->secrets);
	int r = 0;
	if (count > EGRESS_RULES_MAX || secrets > EGRESS_SECRETS_MAX)
		return lib_fail(error, WISP_ERR_INVALID, E2BIG,
		        "the network has %zu rules and %zu secrets: give at most %u and %u", count, secrets,
		        EGRESS_RULES_MAX, EGRESS_SECRETS_MAX);
	egress->secrets = calloc(secrets + 1, sizeof(*egress->secrets));
	if (!egress->secrets)
		return lib_no_memory(error);
	for (size_t i = 0; i < count && r == 0; i++)
		r = add_rule(egress, options->allow[i], error);
	for (size_t i = 0; i < secrets && r == 0; i++)
		r = add_secret(egress, i, options->secrets[i], error);
	return r == 0 && egress->rules.failed ? lib_no_memory(error) : r;
}

static int check(const struct wisp_create_options *options, const char *program, struct wisp_error *error)
{
	if (!count_of(options->allow))
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "a secret is for a host that the guest may reach: set allow too");
	if (options->bare)
		return lib_fail(error, WISP_ERR_INVALID, EINVAL,
		        "a bare sandbox has no agent, which the way to the network requires: omit allow");
	if (access(program, X_OK) < 0)
		return lib_fail(error, WISP_ERR_SETUP, errno, "cannot use the proxy %s: %s: check the installation",
		        program, strerrordesc_np(errno));
	return 0;
}

int egress_prepare(
        const struct wisp_create_options *options, const char *program, struct egress **out, struct wisp_error *error)
{
	*out = NULL;
	if (!count_of(options->allow) && !count_of(options->secrets))
		return 0;
	int r = check(options, program, error);
	struct egress *egress = r == 0 ? calloc(1, sizeof(*egress)) : NULL;
	if (r == 0 && !egress)
		r = lib_no_memory(error);
	if (r < 0)
		return r;
	egress->listen_fd = -1;
	egress->detach = options->detach;
	if (options->detach)
		lib_string_format(&egress->rules, "detach\n");
	egress->program = strdup(program);
	r = egress->program ? fill(egress, options, error) : lib_no_memory(error);
	if (r < 0)
		egress_free(egress);
	else
		*out = egress;
	return r;
}

void egress_free(struct egress *egress)
{
	if (!egress)
		return;
	for (char **secret = egress->secrets; secret && *secret; secret++)
		free(*secret);
	free(egress->secrets);
	free(egress->rules.text);
	free(egress->program);
	if (egress->listen_fd >= 0)
		close(egress->listen_fd);
	free(egress);
}

/* ---- The proxy ---- */

int egress_listen(struct wisp_sandbox *sandbox, struct egress **egress, struct wisp_error *error)
{
	if (!*egress)
		return 0;
	int r = wisp_listen_port(sandbox, EGRESS_VSOCK_PORT, &(*egress)->listen_fd, error);
	if (r < 0)
		return r;
	sandbox->egress = *egress;
	*egress = NULL;
	return 0;
}

/* A file in memory, which ends with its last descriptor. Or -errno. */
static int make_rules(const struct egress *egress)
{
	int fd = memfd_create("rules", MFD_CLOEXEC);
	int r = fd < 0 ? -errno : lib_write_all(fd, egress->rules.text, egress->rules.length);
	if (r < 0 && fd >= 0)
		close(fd);
	return r < 0 ? r : fd;
}

/* It says "ok", or why it cannot serve. */
static int hear(int fd, const char *program, pid_t pid, struct wisp_error *error)
{
	struct launch_words words;
	int r = launch_hear(fd, program, pid, NULL, LAUNCH_LIMIT_MS, &words, error);
	if (r < 0 || strcmp(words.text, "ok") == 0)
		return r;
	return lib_fail(error, WISP_ERR_SETUP, EIO, "the proxy %s could not be set up: %s", program,
	        launch_last_line(&words, "it died without saying why"));
}

static int spawn(const struct egress *egress, const int fds[EGRESS_FD_END], int status, pid_t *pid)
{
	const char *const argv[] = {egress->program, NULL};
	struct launch_fd launch[EGRESS_FD_END];
	size_t count = 0;
	launch[count++] = (struct launch_fd){status, EGRESS_STATUS_FD};
	for (int fd = EGRESS_RULES_FD; fd < EGRESS_FD_END; fd++)
		launch[count++] = (struct launch_fd){fds[fd], fd};
	return launch_spawn(egress->program, argv, launch, count, NULL, pid);
}

/* `fds` are above those that they become, or -1. */
static int start(const struct egress *egress, const int fds[EGRESS_FD_END], pid_t *pid, struct wisp_error *error)
{
	int ends[2], status;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return lib_fail_errno(error, errno, "cannot make a pipe");
	status = fcntl(ends[1], F_DUPFD_CLOEXEC, EGRESS_FD_END);
	close(ends[1]);
	int r = status < 0 ? errno : 0;
	for (int fd = EGRESS_RULES_FD; fd < EGRESS_FD_END && r == 0; fd++)
		r = fds[fd] < 0 ? EBADF : 0;
	if (r == 0)
		r = spawn(egress, fds, status, pid);
	if (status >= 0)
		close(status);
	if (r != 0) {
		r = lib_fail_errno(error, r, "cannot start the proxy %s", egress->program);
	} else {
		r = hear(ends[0], egress->program, *pid, error);
		/* Detached, the one that serves is its child. One that has failed ends with the monitor, at the latest.
		 */
		if (egress->detach)
			launch_reap(*pid);
	}
	close(ends[0]);
	return r;
}

int egress_start(const struct egress *egress, int dir_fd, int monitor_fd, pid_t *pid, struct wisp_error *error)
{
	int fds[EGRESS_FD_END], rules = make_rules(egress);
	int log = openat(dir_fd, SANDBOX_FILES_NET_LOG, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	const int given[EGRESS_FD_END] = {[EGRESS_RULES_FD] = rules,
	        [EGRESS_LISTEN_FD] = egress->listen_fd,
	        [EGRESS_LOG_FD] = log,
	        [EGRESS_MONITOR_FD] = monitor_fd};
	int r = 0;
	*pid = 0;
	if (rules < 0)
		r = lib_fail_errno(error, -rules, "cannot make a file in memory");
	else if (log < 0)
		r = lib_fail_errno(error, errno, "cannot open " SANDBOX_FILES_NET_LOG);
	for (int fd = EGRESS_RULES_FD; fd < EGRESS_FD_END; fd++)
		fds[fd] = r < 0 ? -1 : fcntl(given[fd], F_DUPFD_CLOEXEC, EGRESS_FD_END);
	if (r == 0)
		r = start(egress, fds, pid, error);
	if (egress->detach)
		*pid = 0;
	for (int fd = EGRESS_RULES_FD; fd < EGRESS_FD_END; fd++)
		if (fds[fd] >= 0)
			close(fds[fd]);
	if (rules >= 0)
		close(rules);
	if (log >= 0)
		close(log);
	return r;
}

int egress_begin(struct wisp_sandbox *sandbox, struct wisp_error *error)
{
	pthread_mutex_lock(&sandbox->lock);
	struct egress *egress = sandbox->egress;
	sandbox->egress = NULL;
	pthread_mutex_unlock(&sandbox->lock);
	int r = egress ? egress_start(egress, sandbox->dir_fd, sandbox->pidfd, &sandbox->proxy, error) : 0;
	egress_free(egress);
	if (r < 0) {
		sandbox->config.keep = false;
		sandbox_kill(sandbox, NULL, NULL);
	}
	return r;
}

/* ---- Sessions ---- */

#define TEXT_OF(number) #number
#define HTTP_URL(port) "http://127.0.0.1:" TEXT_OF(port)
_Static_assert(EGRESS_HTTP_PORT == 3128, "the variables name it");

/*
 * ALL_PROXY is the HTTP proxy too: most clients that would use it for SOCKS need a library for that, and some fail at
 * their start if they do not have it.
 */
uint32_t egress_add_env(const char *const *secrets, struct lib_string *out)
{
	static const char *const variables[] = {"HTTP_PROXY=" HTTP_URL(3128), "http_proxy=" HTTP_URL(3128),
	        "HTTPS_PROXY=" HTTP_URL(3128), "https_proxy=" HTTP_URL(3128), "ALL_PROXY=" HTTP_URL(3128),
	        "all_proxy=" HTTP_URL(3128), "NO_PROXY=localhost,127.0.0.1,::1", "no_proxy=localhost,127.0.0.1,::1"};
	uint32_t count = sizeof(variables) / sizeof(variables[0]);
	for (uint32_t i = 0; i < count; i++)
		lib_string_add(out, variables[i], strlen(variables[i]) + 1);
	for (; secrets && *secrets; secrets++, count++) {
		char name[EGRESS_SECRET_NAME_MAX + 1];
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(*secrets, "@"), *secrets);
		lib_string_format(out, "%s=" EGRESS_PLACEHOLDER_FORMAT, name, name);
		lib_string_add(out, "", 1);
	}
	return count;
}
