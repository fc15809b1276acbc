/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A monitor's socket for requests (vmm/monitor/manage.h) with clients. Machine and guest are fakes, in place of
 * vmm/monitor's machine.c and control.c: they do what a case says, when it says so.
 */
#ifndef WISP_TEST_FAKE_MACHINE_H
#define WISP_TEST_FAKE_MACHINE_H

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/test.h"
#include "tests/unit/test_loop.h"
#include "vmm/monitor/manage.h"
#include "vmm/shared/manage.h"

#define MEMORY (4u << 20)
#define CLIENTS 40

struct machine {
	bool runs;
	int pauses, saves, refreshes;
	int result;                  /* of the next pause */
	void (*while_pausing)(void); /* what comes in a round of the loop */
	struct gmem gmem;
};

struct control {
	bool ready, thaws_at_once;
	int freezes, thaws, refusal;
	control_done *done; /* of the freeze or thaw under way */
	void *context;
};

static struct machine machine;
static struct control control;
static struct loop *loop;
static struct manage *manage;
static struct counts counts;
static char path[64];
static int told, tellings; /* the last that `paused` heard: 0 or 1; and how often */
static int forks, fork_result;
static int fd[CLIENTS]; /* of the clients */

int machine_pause(struct machine *m, struct err *err)
{
	void (*meanwhile)(void) = m->while_pausing;
	int result = m->result;
	m->runs = false;
	m->pauses++;
	m->while_pausing = NULL;
	m->result = 0;
	if (meanwhile)
		meanwhile();
	return result < 0 ? err_set(err, -result, "the machine cannot be paused") : 0;
}

void machine_resume(struct machine *m)
{
	m->runs = true;
}

int machine_save(struct machine *m, struct snapshot_origin *origin, struct err *err)
{
	(void)err;
	CHECK(!m->runs);
	m->saves++;
	*origin = (struct snapshot_origin){.state = calloc(1, 100), .state_size = 100, .gmem = m->gmem};
	return 0;
}

void machine_refresh_disks(struct machine *m)
{
	m->refreshes++;
}

struct virtio_dev *machine_vsock(struct machine *m)
{
	(void)m;
	return NULL;
}

void machine_count(struct machine *m, struct stats *stats)
{
	(void)m;
	stats->cpus = 3;
	stats->device_count = 1;
	stats->device[0].bytes_to_guest = 77;
}

int control_freeze(struct control *c, uint32_t timeout_ms, control_done *done, void *context)
{
	CHECK_EQ(timeout_ms, MANAGE_FREEZE_MS);
	CHECK(machine.runs && !c->done);
	if (c->refusal)
		return c->refusal;
	c->freezes++;
	c->done = done;
	c->context = context;
	return 0;
}

int control_thaw(struct control *c, uint32_t timeout_ms, control_done *done, void *context)
{
	CHECK_EQ(timeout_ms, MANAGE_THAW_MS);
	CHECK(!c->done);
	c->thaws++;
	if (c->thaws_at_once)
		return -EINVAL; /* as one that was not frozen: nothing is to be awaited */
	c->done = done;
	c->context = context;
	return 0;
}

/* The guest answers. */
static void guest_answers(int error)
{
	control_done *done = control.done;
	CHECK(done);
	control.done = NULL;
	if (done)
		done(control.context, error);
}

static void on_paused(void *context, bool paused)
{
	(void)context;
	told = paused;
	tellings++;
}

static int on_fork(void *context, int client, struct snapshot_origin *origin, struct err *err)
{
	(void)context;
	CHECK(client >= 0 && origin->state);
	CHECK(!machine.runs);
	forks++;
	return fork_result < 0
	               ? err_set(err, -fork_result, "cannot start the clone's process: %s", strerror(-fork_result))
	               : 0;
}

static bool set_up(bool with_guest)
{
	struct err err = {0};
	struct manage_options options = {.path = path,
	        .machine = &machine,
	        .control = with_guest ? &control : NULL,
	        .counts = &counts,
	        .paused = on_paused,
	        .fork = on_fork};
	counts = (struct counts){.machine = &machine, .gmem = &machine.gmem, .smaps_fd = counts_open_smaps()};
	machine = (struct machine){.runs = true};
	control = (struct control){.thaws_at_once = true};
	told = tellings = forks = fork_result = 0;
	for (int i = 0; i < CLIENTS; i++)
		fd[i] = -1;
	snprintf(path, sizeof(path), "/tmp/wisp-manage-%d", (int)getpid());
	unlink(path);
	if (gmem_create(&machine.gmem, MEMORY, 1ull << 30, 1ull << 31, &err) < 0 || !open_loop(&loop, 64, &err))
		return false;
	options.loop = counts.loop = loop;
	return manage_create(&manage, &options, &err) == 0;
}

static void tear_down(void)
{
	manage_close(manage);
	counts_close(&counts);
	manage_destroy(manage);
	loop_destroy(loop);
	gmem_destroy(&machine.gmem);
	for (int i = 0; i < CLIENTS; i++)
		if (fd[i] >= 0)
			close(fd[i]);
	CHECK(access(path, F_OK) != 0);
}

/* Until nothing more comes. */
static void steps(void)
{
	for (int idle = 0; idle < 3;)
		idle = loop_step(loop, 1) > 0 ? 0 : idle + 1;
}

static bool dial(int i)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	fd[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return connect(fd[i], (const struct sockaddr *)&address, sizeof(address)) == 0;
}

static void hang_up(int i)
{
	close(fd[i]);
	fd[i] = -1;
	steps();
}

static struct manage_request request(enum manage_op op, uint32_t flags)
{
	return (struct manage_request){
	        .magic = MANAGE_MAGIC, .version = MANAGE_VERSION, .op = (uint16_t)op, .flags = flags};
}

static void send_bytes(int i, const void *bytes, size_t size, const int *files, size_t count)
{
	union {
		char bytes[CMSG_SPACE(8 * sizeof(int))];
		struct cmsghdr align;
	} ancillary = {0};
	struct iovec io = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
	struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1};
	if (count > 0) {
		message.msg_control = ancillary.bytes;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
		struct cmsghdr *head = CMSG_FIRSTHDR(&message);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(head), files, count * sizeof(int));
	}
	CHECK_EQ(sendmsg(fd[i], &message, MSG_NOSIGNAL), size);
}

static void ask(int i, enum manage_op op, uint32_t flags)
{
	struct manage_request r = request(op, flags);
	if (fd[i] < 0)
		CHECK(dial(i));
	send_bytes(i, &r, sizeof(r), NULL, 0);
	steps();
}

#define NO_ANSWER 1
#define HUNG_UP 2

/* The error in the answer. */
static int answer(int i, struct manage_reply *to)
{
	struct manage_reply reply;
	ssize_t n = recv(fd[i], &reply, sizeof(reply), MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		return NO_ANSWER;
	if (n != (ssize_t)sizeof(reply))
		return HUNG_UP;
	CHECK(reply.magic == MANAGE_MAGIC && reply.version == MANAGE_VERSION && reply.zero == 0);
	CHECK(reply.error == 0 || reply.text[0]);
	if (reply.error)
		printf("# answer: %s\n", reply.text);
	if (to)
		*to = reply;
	return reply.error;
}

static int count_files(void)
{
	int count = 0;
	DIR *dir = opendir("/proc/self/fd");
	while (dir && readdir(dir))
		count++;
	if (dir)
		closedir(dir);
	return count;
}

#endif
