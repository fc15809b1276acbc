/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/lib/manage.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/lib/port.h"
#include "vmm/lib/sandbox.h"

/* How long a monitor may do nothing that can be seen, in addition to the time that the guest has to freeze. */
#define SILENCE_MS 60000
/* How often a file that is written is looked at. */
#define LOOK_MS 1000

int manage_connect(
        const struct wisp_sandbox *sandbox, const struct lib_cancel *cancel, int *fd, struct wisp_error *error)
{
	/* A reply that is there at once would not be waited for, and so not given up. */
	int r = lib_check_cancel(cancel);
	if (r < 0)
		return lib_fail_wait(error, r);
	r = port_open(sandbox, SANDBOX_FILES_MONITOR, cancel, lib_deadline_ns(PORT_ANSWER_MS), fd, error);
	if (r == -ETIMEDOUT)
		return lib_fail(error, WISP_ERR_DISCONNECTED, ETIMEDOUT,
		        "the monitor of the sandbox '%s' accepted no connection in %d s: it hangs: kill the sandbox",
		        sandbox->name, PORT_ANSWER_MS / 1000);
	return r;
}

static int fail_lost(const struct wisp_sandbox *sandbox, struct wisp_error *error)
{
	return lib_fail(error, WISP_ERR_DISCONNECTED, ECONNRESET,
	        "the monitor of the sandbox '%s' hung up before it answered: the sandbox has ended, or its monitor is "
	        "of another version",
	        sandbox->name);
}

/* A few bytes, which an empty socket takes at once. */
static int send_request(int fd, const struct manage_ask *ask)
{
	struct manage_request request = {.magic = MANAGE_MAGIC,
	        .version = MANAGE_VERSION,
	        .op = (uint16_t)ask->op,
	        .flags = ask->flags,
	        .value = ask->value};
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec io = {.iov_base = &request, .iov_len = sizeof(request)};
	struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1};
	if (ask->file >= 0) {
		message.msg_control = control.bytes;
		message.msg_controllen = sizeof(control.bytes);
		struct cmsghdr *head = CMSG_FIRSTHDR(&message);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(head), &ask->file, sizeof(int));
	}
	ssize_t n;
	do
		n = sendmsg(fd, &message, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return n == (ssize_t)sizeof(request) ? 0 : -EIO;
}

/* Whether more of the file is written than when it was looked at last. */
static bool has_grown(int file, struct stat *last)
{
	struct stat now;
	if (file < 0 || fstat(file, &now) < 0)
		return false;
	bool grown = now.st_size != last->st_size || now.st_blocks != last->st_blocks;
	*last = now;
	return grown;
}

/* Waits until something can be read. */
static int wait_reply(
        int fd, const struct lib_cancel *cancel, const struct manage_ask *ask, struct stat *last, int64_t *deadline_ns)
{
	for (;;) {
		struct pollfd pfd = {.fd = fd, .events = POLLIN};
		int64_t next = ask->file >= 0 ? lib_deadline_ns(LOOK_MS) : *deadline_ns;
		int r = lib_poll(cancel, &pfd, 1, next < *deadline_ns ? next : *deadline_ns);
		if (r != -ETIMEDOUT)
			return r;
		if (has_grown(ask->file, last))
			*deadline_ns = lib_deadline_ns(SILENCE_MS);
		else if (lib_now_ns() >= *deadline_ns)
			return -ETIMEDOUT;
	}
}

/* 0, -ECONNRESET, or what lib_poll returns. */
static int receive(int fd, const struct lib_cancel *cancel, struct manage_ask *ask)
{
	int64_t deadline_ns = lib_deadline_ns(MANAGE_FREEZE_MS + SILENCE_MS);
	struct stat last = {0};
	size_t done = 0;
	while (done < sizeof(ask->reply)) {
		ssize_t n = recv(fd, (char *)&ask->reply + done, sizeof(ask->reply) - done, MSG_DONTWAIT);
		if (n > 0) {
			done += (size_t)n;
		} else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			int r = wait_reply(fd, cancel, ask, &last, &deadline_ns);
			if (r < 0)
				return r;
		} else if (n == 0 || errno != EINTR) {
			return -ECONNRESET;
		}
	}
	return 0;
}

/* The monitor reads what the guest sends: its answer is checked as the guest's would be. */
static int check_reply(const struct wisp_sandbox *sandbox, struct manage_ask *ask, struct wisp_error *error)
{
	struct manage_reply *reply = &ask->reply;
	if (reply->magic == MANAGE_MAGIC && reply->version != MANAGE_VERSION)
		return lib_fail(error, WISP_ERR_VERSION, EPROTO,
		        "the monitor of the sandbox '%s' is of another version: create the sandbox again",
		        sandbox->name);
	if (reply->magic != MANAGE_MAGIC || reply->zero != 0 || reply->error > 0 || reply->error < -4095 ||
	        !memchr(reply->text, '\0', sizeof(reply->text)))
		return lib_fail(error, WISP_ERR_PROTOCOL, EPROTO,
		        "the monitor of the sandbox '%s' violated the protocol", sandbox->name);
	char text[sizeof(reply->text)];
	memcpy(text, reply->text, sizeof(text));
	lib_printable(reply->text, sizeof(reply->text), text, strlen(text));
	return 0;
}

static int fail_reply(const struct wisp_sandbox *sandbox, const struct manage_ask *ask, struct wisp_error *error)
{
	static const char *const what[] = {[MANAGE_PAUSE] = "pause",
	        [MANAGE_RESUME] = "resume",
	        [MANAGE_SNAPSHOT] = "save",
	        [MANAGE_FORK] = "fork",
	        [MANAGE_REFRESH_DISKS] = "refresh the disks of",
	        [MANAGE_FORWARD] = "forward a port to",
	        [MANAGE_UNFORWARD] = "close a port of",
	        [MANAGE_FORWARDS] = "list the ports of",
	        [MANAGE_STATS] = "read the counts of"};
	int errnum = -ask->reply.error;
	if (errnum == EALREADY)
		return -EALREADY;
	enum wisp_status status = errnum == ENOMEM ? WISP_ERR_NO_MEMORY : WISP_ERR_SYSTEM;
	if (ask->reply.text[0])
		return lib_fail(error, status, errnum, "cannot %s the sandbox '%s': %s", what[ask->op], sandbox->name,
		        ask->reply.text);
	return lib_fail_errno(error, errnum, "cannot %s the sandbox '%s'", what[ask->op], sandbox->name);
}

int manage_request(const struct wisp_sandbox *sandbox, int fd, const struct lib_cancel *cancel, struct manage_ask *ask,
        struct wisp_error *error)
{
	int r = send_request(fd, ask);
	if (r == 0)
		r = receive(fd, cancel, ask);
	if (port_is_cut(r))
		return fail_lost(sandbox, error);
	if (r == -ECANCELED || r == -EINTR)
		return lib_fail_wait(error, r);
	if (r == -ETIMEDOUT)
		return lib_fail(error, WISP_ERR_DISCONNECTED, ETIMEDOUT,
		        "the monitor of the sandbox '%s' does not answer: it hangs: kill the sandbox", sandbox->name);
	if (r < 0)
		return lib_fail_errno(error, -r, "cannot send to the monitor of the sandbox '%s'", sandbox->name);
	r = check_reply(sandbox, ask, error);
	return r < 0 || ask->reply.error == 0 ? r : fail_reply(sandbox, ask, error);
}

int manage_once(const struct wisp_sandbox *sandbox, const struct lib_cancel *cancel, struct manage_ask *ask,
        struct wisp_error *error)
{
	int fd;
	int r = manage_connect(sandbox, cancel, &fd, error);
	if (r < 0)
		return r;
	r = manage_request(sandbox, fd, cancel, ask, error);
	close(fd);
	return r;
}

int manage_hold(const struct wisp_sandbox *sandbox, const struct lib_cancel *cancel, struct manage_hold *hold,
        struct wisp_error *error)
{
	struct manage_ask ask = {.op = MANAGE_PAUSE, .flags = MANAGE_HOLD, .file = -1};
	int fd;
	int r = manage_connect(sandbox, cancel, &fd, error);
	if (r < 0)
		return r;
	*hold = (struct manage_hold){.fd = fd};
	r = manage_request(sandbox, fd, cancel, &ask, error);
	if (r < 0)
		manage_release(sandbox, hold, false);
	return r;
}

void manage_release(const struct wisp_sandbox *sandbox, struct manage_hold *hold, bool wait)
{
	struct manage_ask ask = {.op = MANAGE_RESUME, .file = -1};
	if (hold->fd < 0)
		return;
	/* If it fails, the end of the connection does the same. */
	if (wait)
		manage_request(sandbox, hold->fd, NULL, &ask, NULL);
	close(hold->fd);
	*hold = (struct manage_hold){.fd = -1};
}

/* What the caller wants is so already. */
static int be(struct wisp_sandbox *sandbox, enum manage_op op, struct wisp_error *error)
{
	struct manage_ask ask = {.op = op, .file = -1};
	if (lib_is_null(sandbox, "sandbox", error))
		return -EINVAL;
	int r = manage_once(sandbox, &sandbox->cancel, &ask, error);
	return r == -EALREADY ? 0 : r;
}

int wisp_pause_sandbox(struct wisp_sandbox *sandbox, struct wisp_error *error)
{
	return be(sandbox, MANAGE_PAUSE, error);
}

int wisp_resume_sandbox(struct wisp_sandbox *sandbox, struct wisp_error *error)
{
	return be(sandbox, MANAGE_RESUME, error);
}

int wisp_refresh_disks(struct wisp_sandbox *sandbox, struct wisp_error *error)
{
	if (lib_is_null(sandbox, "sandbox", error))
		return -EINVAL;
	struct manage_ask ask = {.op = MANAGE_REFRESH_DISKS, .file = -1};
	return manage_once(sandbox, &sandbox->cancel, &ask, error);
}
