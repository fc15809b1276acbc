/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wisp-vmm: the process that is one sandbox. The host library (vmm/lib) starts it and sends it the sandbox's
 * description with all descriptors on a socket; it is not a command for users. It works inside the sandbox's directory,
 * says on that socket when the guest is ready and how it ended, and leaves nothing behind.
 *
 * The end has one path: whatever comes first (the guest stops, a signal, the owner is gone, the boot takes too long)
 * records its reason and stops the loop.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "vmm/monitor/control.h"
#include "vmm/monitor/execlog.h"
#include "vmm/monitor/logfile.h"
#include "vmm/monitor/machine.h"
#include "vmm/monitor/sandbox_dir.h"
#include "vmm/monitor/sigbus.h"
#include "vmm/shared/container_of.h"
#include "vmm/shared/description.h"
#include "vmm/shared/end.h"
#include "vmm/shared/sandbox_files.h"

#define CONSOLE_LOG_MAX (1u << 20)
#define VMM_LOG_MAX (1u << 20)
#define EXEC_LOG_MAX (16u << 20)
#define LAST_WORDS_MAX 512u

enum { EXIT_SET_UP = 125 };

struct vmm {
	struct description description;
	struct description_fds fds;
	struct loop *loop;
	struct log log;
	struct logfile vmm_log, console_log, exec_log;
	struct control *control;
	struct machine *machine;
	struct trace trace;
	bool ready; /* atomic: set on the loop's thread, read on those of vCPUs */
	bool stop_asked;

	pthread_mutex_t end_lock;
	bool ended;
	enum wisp_end end;
	char end_text[256];
	char last_words[LAST_WORDS_MAX]; /* what the guest printed last; guarded by end_lock */

	uint64_t begun_ns; /* CLOCK_MONOTONIC */
	int signal_fd;
	sigset_t signals;
	struct signalfd_siginfo signal;
	char owner_byte;
	struct __kernel_timespec timer_ts;
	int owner_pidfd;
	struct loop_op signal_op, owner_op, owner_exit_op, timer_op;
};

static bool has(const struct vmm *v, enum description_flags flag)
{
	return v->description.flags & flag;
}

/* --- what is said, and to whom --- */

static void write_log(void *context, enum log_level level, const char *text)
{
	static const char *const names[] = {"error", "warning", "info"};
	struct vmm *v = context;
	char line[1024];
	struct timespec now;
	struct tm tm;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	size_t n = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
	n += (size_t)snprintf(line + n, sizeof(line) - n, ".%06ldZ %s: %s\n", now.tv_nsec / 1000, names[level], text);
	logfile_write(&v->vmm_log, line, n < sizeof(line) ? n : sizeof(line) - 1);
}

static void log_progress(struct vmm *v, const char *what)
{
	log_line(&v->log, LOG_INFO, "%s after %.3f ms", what, (double)(loop_now_ns() - v->begun_ns) / 1e6);
}

/* Tells the sandbox's owner. */
static void say(const char *line)
{
	char text[1024];
	int n = snprintf(text, sizeof(text), "%s\n", line);
	if (n >= (int)sizeof(text))
		n = (int)sizeof(text) - 1;
	(void)!send(DESCRIPTION_SOCKET_FD, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void finish(struct vmm *v, enum wisp_end end, const char *text)
{
	pthread_mutex_lock(&v->end_lock);
	if (!v->ended) {
		trace_mark(&v->trace, "ended");
		v->ended = true;
		v->end = end;
		snprintf(v->end_text, sizeof(v->end_text), "%s", text);
	}
	pthread_mutex_unlock(&v->end_lock);
	loop_stop(v->loop);
}

/* --- the machine's callbacks --- */

static void keep_last_words(struct vmm *v, const char *data, size_t len)
{
	size_t room = sizeof(v->last_words) - 1;
	if (__atomic_load_n(&v->ready, __ATOMIC_RELAXED))
		return;
	if (len > room) {
		data += len - room;
		len = room;
	}
	pthread_mutex_lock(&v->end_lock);
	size_t used = strlen(v->last_words), keep = used + len > room ? room - len : used;
	memmove(v->last_words, v->last_words + used - keep, keep);
	for (size_t i = 0; i < len; i++)
		v->last_words[keep + i] = data[i] ? data[i] : '?';
	v->last_words[keep + len] = '\0';
	pthread_mutex_unlock(&v->end_lock);
}

/* The last line that the guest printed before it was ready, for the message about a boot that failed. */
static const char *last_line(struct vmm *v)
{
	char *text = v->last_words;
	size_t length = strlen(text);
	while (length > 0 && strchr("\r\n ", text[length - 1]))
		text[--length] = '\0';
	for (size_t i = 0; i < length; i++) {
		if (text[i] == '\r')
			text[i] = '\n';
	}
	const char *newline = strrchr(text, '\n'), *line = newline ? newline + 1 : text;
	const char *stamp = *line == '[' ? strstr(line, "] ") : NULL; /* the kernel's time */
	return stamp ? stamp + 2 : line;
}

static void on_console(void *context, const void *data, size_t len)
{
	struct vmm *v = context;
	logfile_write(&v->console_log, data, len);
	keep_last_words(v, data, len);
	if (has(v, DESCRIPTION_ECHO))
		(void)!write(STDERR_FILENO, data, len);
}

static void on_machine_end(void *context, enum wisp_end end, const char *text)
{
	finish(context, end, text);
}

static void on_ready(void *context)
{
	struct vmm *v = context;
	__atomic_store_n(&v->ready, true, __ATOMIC_RELAXED);
	loop_cancel(v->loop, &v->timer_op);
	log_progress(v, "the guest is ready");
	trace_mark(&v->trace, "ready");
	sandbox_files_write_state(v->fds.dir, "ready");
	say("ready");
}

static void on_event(
        void *context, uint64_t session, uint64_t realtime_ns, uint8_t type, const uint8_t *payload, size_t len)
{
	struct vmm *v = context;
	execlog_write(&v->exec_log, session, realtime_ns, type, payload, len);
}

/* --- signals, the owner, time --- */

/* One of these operations has failed. Without it, the machine could run on unattended. */
static void finish_blind(struct vmm *v, const char *what, int res)
{
	char text[160];
	if (res == -ECANCELED)
		return;
	snprintf(text, sizeof(text), "the host cannot watch %s: %s", what, strerror(-res));
	finish(v, WISP_END_INTERNAL, text);
}

static void start_timer(struct vmm *v, uint32_t ms)
{
	v->timer_ts = (struct __kernel_timespec){.tv_sec = ms / 1000, .tv_nsec = (long long)(ms % 1000) * 1000000};
	struct io_uring_sqe *sqe = loop_sqe(v->loop);
	io_uring_prep_timeout(sqe, &v->timer_ts, 0, 0);
	loop_start(v->loop, sqe, &v->timer_op);
}

static void on_boot_timeout(struct loop_op *op, int res, uint32_t flags)
{
	struct vmm *v = container_of(op, struct vmm, timer_op);
	char text[160], where[64];
	(void)flags;
	if (res != -ETIME) {
		finish_blind(v, "how long the guest takes to boot", res);
		return;
	}
	machine_describe(v->machine, where, sizeof(where));
	snprintf(text, sizeof(text), "the guest was not ready after %g s, with %s",
	        v->description.boot_timeout_ms / 1000.0, where);
	finish(v, WISP_END_BOOT_TIMEOUT, text);
}

static void read_signal(struct vmm *v)
{
	struct io_uring_sqe *sqe = loop_sqe(v->loop);
	io_uring_prep_read(sqe, v->signal_fd, &v->signal, sizeof(v->signal), 0);
	loop_start(v->loop, sqe, &v->signal_op);
}

/*
 * SIGUSR1: disks have changed their size. Of the others the first asks the guest to stop in order, within the sender's
 * grace; a second does not wait.
 */
static void on_signal(struct loop_op *op, int res, uint32_t flags)
{
	struct vmm *v = container_of(op, struct vmm, signal_op);
	(void)flags;
	if (res < 0) {
		finish_blind(v, "for signals", res);
		return;
	}
	if (v->signal.ssi_signo == SIGUSR1) {
		machine_refresh_disks(v->machine);
		read_signal(v);
		return;
	}
	/* The library says for how long it will wait; kill(1) does not. */
	uint32_t grace_ms = v->signal.ssi_code == SI_QUEUE && v->signal.ssi_int > 0 ? (uint32_t)v->signal.ssi_int : 0;
	if (v->stop_asked || !v->ready || control_poweroff(v->control, grace_ms) < 0) {
		finish(v, WISP_END_KILLED, "stopped hard");
		return;
	}
	v->stop_asked = true;
	read_signal(v);
}

static void watch_owner(struct vmm *v)
{
	struct io_uring_sqe *sqe = loop_sqe(v->loop);
	io_uring_prep_recv(sqe, DESCRIPTION_SOCKET_FD, &v->owner_byte, 1, 0);
	loop_start(v->loop, sqe, &v->owner_op);
}

static void end_without_owner(struct vmm *v)
{
	if (!has(v, DESCRIPTION_DETACH) || !v->ready)
		finish(v, WISP_END_KILLED, "the program that started it is gone");
}

static void on_owner_exit(struct loop_op *op, int res, uint32_t flags)
{
	struct vmm *v = container_of(op, struct vmm, owner_exit_op);
	(void)flags;
	if (res < 0)
		finish_blind(v, "the program that started the sandbox", res);
	else
		end_without_owner(v);
}

/* A process that the owner forked holds the socket open too, so the socket does not tell all of its ends. */
static int watch_owner_exit(struct vmm *v, struct err *err)
{
	struct ucred owner;
	socklen_t size = sizeof(owner);
	v->owner_pidfd = -1;
	if (has(v, DESCRIPTION_DETACH))
		return 0;
	if (getsockopt(DESCRIPTION_SOCKET_FD, SOL_SOCKET, SO_PEERCRED, &owner, &size) < 0)
		return err_set(err, errno, "cannot tell who started the sandbox: %s", strerror(errno));
	v->owner_pidfd = (int)syscall(SYS_pidfd_open, owner.pid, 0);
	/* As long as it is our parent, its pid is not another's. */
	if (getppid() != owner.pid)
		return err_set(err, ESRCH, "the program that started it is gone");
	if (v->owner_pidfd < 0)
		return err_set(err, errno, "cannot watch the program that started it: %s", strerror(errno));
	v->owner_exit_op.done = on_owner_exit;
	struct io_uring_sqe *sqe = loop_sqe(v->loop);
	io_uring_prep_poll_add(sqe, v->owner_pidfd, POLLIN);
	loop_start(v->loop, sqe, &v->owner_exit_op);
	return 0;
}

static void on_owner(struct loop_op *op, int res, uint32_t flags)
{
	struct vmm *v = container_of(op, struct vmm, owner_op);
	(void)flags;
	/* ECONNRESET: it is gone, and has not read everything. */
	if (res > 0)
		watch_owner(v);
	else if (res < 0 && res != -ECONNRESET)
		finish_blind(v, "the program that started the sandbox", res);
	else
		end_without_owner(v);
}

/* --- life --- */

static void prepare_logs(struct vmm *v)
{
	logfile_init(&v->vmm_log, v->fds.dir, SANDBOX_FILES_VMM_LOG, VMM_LOG_MAX);
	logfile_init(&v->console_log, v->fds.dir, SANDBOX_FILES_CONSOLE_LOG, CONSOLE_LOG_MAX);
	logfile_init(&v->exec_log, v->fds.dir, SANDBOX_FILES_EXEC_LOG, EXEC_LOG_MAX);
	v->log = (struct log){.write = write_log, .context = v};
}

static int create_logs(struct vmm *v, struct err *err)
{
	int ret = logfile_create(&v->vmm_log, err);
	if (ret == 0)
		ret = logfile_create(&v->console_log, err);
	return ret < 0 ? ret : logfile_create(&v->exec_log, err);
}

/* From here on they wait for the loop. */
static void block_signals(struct vmm *v)
{
	sigemptyset(&v->signals);
	sigaddset(&v->signals, SIGTERM);
	sigaddset(&v->signals, SIGINT);
	sigaddset(&v->signals, SIGHUP);
	sigaddset(&v->signals, SIGUSR1);
	sigprocmask(SIG_BLOCK, &v->signals, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* Everything the loop listens to besides the devices. */
static int start_watching(struct vmm *v, struct err *err)
{
	v->signal_fd = signalfd(-1, &v->signals, SFD_CLOEXEC);
	if (v->signal_fd < 0)
		return err_set(err, errno, "cannot create a signalfd: %s", strerror(errno));
	v->signal_op.done = on_signal;
	read_signal(v);
	v->owner_op.done = on_owner;
	watch_owner(v);
	v->timer_op.done = on_boot_timeout;
	if (v->description.boot_timeout_ms > 0)
		start_timer(v, v->description.boot_timeout_ms);
	return watch_owner_exit(v, err);
}

/* Set up everything that the guest does not need to start. Runs in parallel with its first steps. */
static int on_begun(void *context, struct err *err)
{
	struct vmm *v = context;
	struct control_events events = {.ready = on_ready, .event = on_event, .context = v};
	close(v->fds.kernel);
	v->fds.kernel = -1;
	int ret = start_watching(v, err);
	if (ret == 0)
		ret = create_logs(v, err);
	if (ret == 0 && !has(v, DESCRIPTION_BARE))
		ret = control_create(&v->control, SANDBOX_FILES_AGENT, &events, v->loop, &v->log, err);
	if (ret == 0)
		log_progress(v, "the guest runs");
	return ret;
}

/* The owner has its answer from the first process at once; the second is not its child. */
static int daemonise(struct err *err)
{
	pid_t pid = fork();
	if (pid < 0)
		return err_set(err, errno, "cannot start the sandbox's own process: %s", strerror(errno));
	if (pid > 0)
		_exit(0);
	setsid();
	return 0;
}

static void write_trace(struct vmm *v)
{
	int ret = trace_write(&v->trace, v->fds.dir, SANDBOX_FILES_TRACE);
	if (ret < 0)
		log_line(&v->log, LOG_WARN, "cannot write the trace: %s", strerror(-ret));
}

static int create_machine(struct vmm *v, struct err *err)
{
	struct machine_options options = {.description = &v->description,
	        .fds = &v->fds,
	        .vsock_path = has(v, DESCRIPTION_BARE) ? NULL : SANDBOX_FILES_VSOCK,
	        .console = on_console,
	        .begun = on_begun,
	        .ended = on_machine_end,
	        .context = v,
	        .log = &v->log,
	        .trace = has(v, DESCRIPTION_TRACE) ? &v->trace : NULL};
	int ret = loop_create(&v->loop, err);
	options.loop = v->loop;
	return ret < 0 ? ret : machine_create(&v->machine, &options, err);
}

/* Everything that fails from here on is one end: reported, logged, cleaned up. */
static int run(struct vmm *v, struct err *err)
{
	int ret = has(v, DESCRIPTION_DETACH) ? daemonise(err) : 0;
	/* What follows names files in the sandbox's directory only. */
	if (ret == 0 && fchdir(v->fds.dir) < 0)
		ret = err_set(err, errno, "cannot enter the sandbox's directory: %s", strerror(errno));
	if (ret == 0)
		ret = sandbox_dir_show_pid(v->fds.lock, err);
	if (ret == 0) {
		prepare_logs(v);
		ret = create_machine(v, err);
	}
	return ret < 0 ? ret : machine_run(v->machine, err);
}

static void describe_end(struct vmm *v, char *line, size_t size)
{
	const char *words = v->ready || v->end == WISP_END_KILLED ? "" : last_line(v);
	snprintf(line, size, "exit %s %s%s%s%s", end_name(v->end), v->end_text,
	        *words ? "; its last words were \"" : "", words, *words ? "\"" : "");
}

/* The last report: for the owner, and, where the directory stays, for everyone else. */
static void report_end(struct vmm *v, const char *line)
{
	log_line(&v->log, LOG_INFO, "%s", line);
	logfile_close(&v->vmm_log);
	logfile_close(&v->console_log);
	logfile_close(&v->exec_log);
	if (has(v, DESCRIPTION_EPHEMERAL))
		sandbox_files_remove(v->fds.root, v->fds.dir, v->description.name);
	else
		sandbox_files_write_state(v->fds.dir, line);
	/* Last, so that whoever reads it finds everything done. */
	say(line);
}

static int receive_description(struct vmm *v)
{
	char why[200], line[240];
	int ret = description_receive(DESCRIPTION_SOCKET_FD, &v->description, &v->fds, why, sizeof(why));
	if (ret == 0)
		return 0;
	fprintf(stderr, "wisp-vmm: %s (libwisp starts this program)\n", why);
	snprintf(line, sizeof(line), "error %s", why);
	say(line);
	description_close_fds(&v->fds);
	return ret;
}

int main(void)
{
	static struct vmm vmm; /* large, and one per process by nature */
	struct vmm *v = &vmm;
	struct err err = {0};
	char line[900];
	v->begun_ns = loop_now_ns();
	prctl(PR_SET_NAME, "wisp-vmm");
	umask(077);
	sigbus_report();
	pthread_mutex_init(&v->end_lock, NULL);
	block_signals(v);
	if (receive_description(v) < 0)
		return EXIT_SET_UP;
	trace_mark_at(&v->trace, "spawn", v->description.started_ns);
	trace_mark_at(&v->trace, "main", v->begun_ns);
	int ret = run(v, &err);
	machine_destroy(v->machine);
	control_destroy(v->control);
	loop_destroy(v->loop);
	trace_mark(&v->trace, "torn_down");
	if (has(v, DESCRIPTION_TRACE))
		write_trace(v);
	if (ret < 0)
		snprintf(line, sizeof(line), "error %s", err.text);
	else
		describe_end(v, line, sizeof(line));
	report_end(v, line);
	description_close_fds(&v->fds);
	return ret < 0 ? EXIT_SET_UP : 0;
}
