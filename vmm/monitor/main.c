/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wisp-vmm: the process that is one sandbox. The host library starts it (vmm/lib), with everything decided; it is no
 * user's command. It builds a machine in the sandbox's directory, says on its status descriptor when the guest is ready
 * and how it ended, and leaves nothing behind.
 *
 * The end has one path: whatever comes first (the guest stops, a signal, the owner is gone, the boot takes too long)
 * records its reason and stops the loop.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vmm/monitor/control.h"
#include "vmm/monitor/execlog.h"
#include "vmm/monitor/machine.h"
#include "vmm/monitor/sandbox_dir.h"

#define CONSOLE_LOG_MAX (1u << 20)
#define VMM_LOG_MAX (1u << 20)
#define EXEC_LOG_MAX (16u << 20)
#define LOOP_ENTRIES 256

enum { EXIT_SET_UP = 125 };

struct arguments {
	const char *dir, *host, *mode, *overlay;
	int lock_fd, status_fd;
	unsigned boot_timeout_s;
	bool detach, ephemeral, traced;
	size_t disk_count;
	char *disk[MACHINE_DISKS_MAX]; /* PATH,ro|rw,cache=MODE */
	struct machine_options machine;
};

struct vmm {
	struct arguments args;
	struct loop *loop;
	struct log log;
	struct capped_file vmm_log, console_log, exec_log;
	struct control *control;
	struct machine *machine;
	struct trace trace; /* with --trace: DIR/trace at the end */
	bool echo_console;  /* --console: to the standard error as well */
	bool ready, stop_asked;

	pthread_mutex_t end_lock;
	bool ended;
	char end_reason[16], end_text[256];

	uint64_t begun_ns; /* CLOCK_MONOTONIC */
	int signal_fd;
	sigset_t signals;
	struct signalfd_siginfo signal;
	char owner_byte;
	struct __kernel_timespec timer_ts;
	struct loop_op signal_op, owner_op, timer_op;
};

/* --- what is said, and to whom --- */

static void write_log(void *context, enum log_level level, const char *text)
{
	static const char *const names[] = {"error", "warning", "info"};
	struct vmm *v = context;
	char line[640];
	struct timespec now;
	struct tm tm;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	size_t n = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
	n += (size_t)snprintf(line + n, sizeof(line) - n, ".%06ldZ %s: %s\n", now.tv_nsec / 1000, names[level], text);
	capped_write(&v->vmm_log, line, n < sizeof(line) ? n : sizeof(line) - 1);
}

static void log_progress(struct vmm *v, const char *what)
{
	log_line(&v->log, LOG_INFO, "%s after %.3f ms", what, (double)(loop_now_ns() - v->begun_ns) / 1e6);
}

/* To the sandbox's owner, and to its directory for everybody else. */
static void say(struct vmm *v, const char *line)
{
	char text[640];
	int n = snprintf(text, sizeof(text), "%s\n", line);
	if (n >= (int)sizeof(text))
		n = (int)sizeof(text) - 1;
	sandbox_dir_write_state(v->args.dir, line);
	if (v->args.status_fd >= 0)
		(void)!send(v->args.status_fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void finish(struct vmm *v, const char *reason, const char *text)
{
	pthread_mutex_lock(&v->end_lock);
	if (!v->ended) {
		trace_mark(&v->trace, "ended", NULL);
		v->ended = true;
		snprintf(v->end_reason, sizeof(v->end_reason), "%s", reason);
		snprintf(v->end_text, sizeof(v->end_text), "%s", text);
	}
	pthread_mutex_unlock(&v->end_lock);
	loop_stop(v->loop);
}

/* --- the machine's callbacks --- */

static void on_console(void *context, const void *data, size_t len)
{
	struct vmm *v = context;
	capped_write(&v->console_log, data, len);
	if (v->echo_console)
		(void)!write(STDERR_FILENO, data, len);
}

static void on_machine_end(void *context, enum machine_end end, const char *text)
{
	static const char *const reasons[] = {[MACHINE_POWEROFF] = "poweroff",
	        [MACHINE_REBOOT] = "reboot",
	        [MACHINE_PANIC] = "panic",
	        [MACHINE_TRIPLE_FAULT] = "triple-fault",
	        [MACHINE_BOOT_FAILED] = "boot-failed",
	        [MACHINE_ERROR] = "internal"};
	finish(context, reasons[end], text);
}

static void on_ready(void *context)
{
	struct vmm *v = context;
	v->ready = true;
	loop_cancel(v->loop, &v->timer_op);
	log_progress(v, "the guest is ready");
	trace_mark(&v->trace, "ready", NULL);
	say(v, "ready");
}

static void on_event(
        void *context, uint64_t session, uint64_t realtime_ns, uint8_t type, const uint8_t *payload, size_t len)
{
	struct vmm *v = context;
	execlog_write(&v->exec_log, session, realtime_ns, type, payload, len);
}

/* --- signals, the owner, time --- */

static void start_timer(struct vmm *v, unsigned seconds)
{
	v->timer_ts = (struct __kernel_timespec){.tv_sec = seconds};
	struct io_uring_sqe *sqe = loop_sqe(v->loop);
	io_uring_prep_timeout(sqe, &v->timer_ts, 0, 0);
	loop_start(v->loop, sqe, &v->timer_op);
}

static void on_boot_timeout(struct loop_op *op, int res, uint32_t flags)
{
	struct vmm *v = (struct vmm *)((char *)op - offsetof(struct vmm, timer_op));
	char text[160];
	(void)flags;
	if (res != -ETIME)
		return;
	snprintf(text, sizeof(text), "the guest was not ready after %u s (its last words are in %s/console.log)",
	        v->args.boot_timeout_s, v->args.dir);
	finish(v, "boot-timeout", text);
}

static void read_signal(struct vmm *v)
{
	struct io_uring_sqe *sqe = loop_sqe(v->loop);
	io_uring_prep_read(sqe, v->signal_fd, &v->signal, sizeof(v->signal), 0);
	loop_start(v->loop, sqe, &v->signal_op);
}

/* The first asks the guest to stop in order, for as long as whoever sent it is patient; a second does not wait. */
static void on_signal(struct loop_op *op, int res, uint32_t flags)
{
	struct vmm *v = (struct vmm *)((char *)op - offsetof(struct vmm, signal_op));
	(void)flags;
	if (res < 0)
		return;
	if (v->stop_asked || !v->ready || control_poweroff(v->control) < 0) {
		finish(v, "killed", "stopped hard");
		return;
	}
	v->stop_asked = true;
	read_signal(v);
}

static void watch_owner(struct vmm *v)
{
	struct io_uring_sqe *sqe = loop_sqe(v->loop);
	io_uring_prep_recv(sqe, v->args.status_fd, &v->owner_byte, 1, 0);
	loop_start(v->loop, sqe, &v->owner_op);
}

static void on_owner(struct loop_op *op, int res, uint32_t flags)
{
	struct vmm *v = (struct vmm *)((char *)op - offsetof(struct vmm, owner_op));
	(void)flags;
	if (res > 0) {
		watch_owner(v);
		return;
	}
	if (!v->args.detach || !v->ready)
		finish(v, "killed", "the program that started it is gone");
}

/* --- arguments --- */

static const struct option long_options[] = {
        {"dir", required_argument, NULL, 'd'},
        {"lock-fd", required_argument, NULL, 'l'},
        {"status-fd", required_argument, NULL, 's'},
        {"kernel", required_argument, NULL, 'k'},
        {"initramfs", required_argument, NULL, 'i'},
        {"cpus", required_argument, NULL, 'c'},
        {"memory", required_argument, NULL, 'm'},
        {"disk", required_argument, NULL, 'D'},
        {"mode", required_argument, NULL, 'M'},
        {"overlay", required_argument, NULL, 'o'},
        {"host", required_argument, NULL, 'h'},
        {"kernel-args", required_argument, NULL, 'a'},
        {"boot-timeout", required_argument, NULL, 't'},
        {"trace", optional_argument, NULL, 'T'},
        {"breakpoint", required_argument, NULL, 'B'},
        {"console", no_argument, NULL, 'C'},
        {"detach", no_argument, NULL, 'b'},
        {"ephemeral", no_argument, NULL, 'e'},
        {0},
};

static int parse_number(const char *name, const char *text, long max, long *value, struct err *err)
{
	char *end;
	errno = 0;
	*value = strtol(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || *value < 0 || *value > max)
		return err_set(err, EINVAL, "--%s wants a number from 0 to %ld, not \"%s\"", name, max, text);
	return 0;
}

static int add_disk(struct arguments *a, char *text, struct err *err)
{
	if (a->disk_count == MACHINE_DISKS_MAX)
		return err_set(err, EINVAL, "too many disks (at most %u)", MACHINE_DISKS_MAX);
	a->disk[a->disk_count++] = text;
	return 0;
}

static int parse(struct arguments *a, struct trace *trace, int argc, char **argv, struct err *err)
{
	long number = 0;
	int c, index = 0, ret = 0;
	*a = (struct arguments){.lock_fd = -1, .status_fd = -1, .host = "wisp", .mode = "ro", .boot_timeout_s = 30};
	a->machine = (struct machine_options){.cpus = 1, .memory_mib = 128, .kernel_args = "", .agent_args = ""};
	while (ret == 0 && (c = getopt_long(argc, argv, "", long_options, &index)) != -1) {
		const char *name = long_options[index].name;
		if (strchr("lscmt", c))
			ret = parse_number(name, optarg, INT_MAX, &number, err);
		switch (c) {
		case 'd': a->dir = optarg; break;
		case 'l': a->lock_fd = (int)number; break;
		case 's': a->status_fd = (int)number; break;
		case 'k': a->machine.kernel_path = optarg; break;
		case 'i': a->machine.initramfs_path = optarg; break;
		case 'c': a->machine.cpus = (unsigned)number; break;
		case 'm': a->machine.memory_mib = (uint64_t)number; break;
		case 'D': ret = ret ? ret : add_disk(a, optarg, err); break;
		case 'M': a->mode = optarg; break;
		case 'o': a->overlay = optarg; break;
		case 'h': a->host = optarg; break;
		case 'a': a->machine.kernel_args = optarg; break;
		case 't': a->boot_timeout_s = (unsigned)number; break;
		case 'T':
			a->traced = true;
			if (optarg) /* when the library started this process */
				trace_mark_at(trace, "spawn", strtoull(optarg, NULL, 10), NULL);
			break;
		case 'B': ret = trace_add_breakpoint(trace, optarg, err); break;
		case 'C': a->machine.serial = true; break;
		case 'b': a->detach = true; break;
		case 'e': a->ephemeral = true; break;
		default: ret = err_set(err, EINVAL, "unknown option (this program is started by libwisp)"); break;
		}
	}
	if (ret == 0 && (optind != argc || !a->dir || !a->machine.kernel_path))
		ret = err_set(err, EINVAL, "wants --dir and --kernel (this program is started by libwisp)");
	return ret;
}

/* --- life --- */

static int open_disk(struct machine_options *o, const char *path, bool readonly, enum blk_cache cache, struct err *err)
{
	int fd = open(path, (readonly ? O_RDONLY : O_RDWR) | (cache == BLK_DIRECT ? O_DIRECT : 0) | O_CLOEXEC);
	if (fd < 0 && errno == EINVAL && cache == BLK_DIRECT)
		return err_set(
		        err, EINVAL, "cannot open disk %s past the page cache: its file system has no O_DIRECT", path);
	if (fd < 0)
		return err_set(err, errno, "cannot open disk %s: %s", path, strerror(errno));
	o->disk[o->disk_count++] = (struct machine_disk){.fd = fd, .readonly = readonly, .cache = cache};
	return 0;
}

/* `text` is PATH,ro|rw,cache=MODE, nothing left out: whatever stands before that is the path. */
static int open_disk_option(struct machine_options *o, char *text, bool readonly, struct err *err)
{
	static const char *const modes[] = {
	        [BLK_WRITEBACK] = "cache=writeback", [BLK_DIRECT] = "cache=direct", [BLK_UNSAFE] = "cache=unsafe"};
	unsigned count = sizeof(modes) / sizeof(modes[0]), cache = 0;
	char *mode = strrchr(text, ',');
	if (mode)
		*mode++ = '\0';
	char *access = mode ? strrchr(text, ',') : NULL;
	if (access)
		*access++ = '\0';
	while (access && cache < count && strcmp(mode, modes[cache]) != 0)
		cache++;
	if (!access || cache == count || (strcmp(access, "ro") != 0 && strcmp(access, "rw") != 0))
		return err_set(err, EINVAL, "--disk wants PATH,ro|rw,cache=writeback|direct|unsafe, not \"%s\"", text);
	return open_disk(o, text, readonly || strcmp(access, "ro") == 0, (enum blk_cache)cache, err);
}

/* The root first, then what lies over it, then the others: the agent is told letters, users count from there. */
static int open_disks(struct arguments *a, char *agent_args, size_t size, struct err *err)
{
	struct machine_options *o = &a->machine;
	bool readonly = strcmp(a->mode, "rw") != 0;
	int ret = 0;
	int used = snprintf(agent_args, size, "host=%s", a->host);
	if (a->disk_count > 0) {
		ret = open_disk_option(o, a->disk[0], readonly, err);
		used += snprintf(agent_args + used, size - (size_t)used, " root=vda mode=%s", readonly ? "ro" : "rw");
	}
	if (ret == 0 && a->overlay) {
		ret = open_disk(o, a->overlay, false, BLK_WRITEBACK, err);
		snprintf(agent_args + used, size - (size_t)used, " overlay=vd%c", (char)('a' + o->disk_count - 1));
	}
	for (size_t i = 1; i < a->disk_count && ret == 0; i++) {
		if (o->disk_count == MACHINE_DISKS_MAX)
			ret = err_set(err, EINVAL, "too many disks (at most %u)", MACHINE_DISKS_MAX);
		else
			ret = open_disk_option(o, a->disk[i], false, err);
	}
	if (a->traced)
		strncat(agent_args, " stamps=1", size - strlen(agent_args) - 1);
	o->agent_args = agent_args;
	return ret;
}

static int prepare_logs(struct vmm *v, struct err *err)
{
	const char *dir = v->args.dir;
	char path[256];
	snprintf(path, sizeof(path), "%s/vmm.log", dir);
	int ret = capped_prepare(&v->vmm_log, path, VMM_LOG_MAX, err);
	snprintf(path, sizeof(path), "%s/console.log", dir);
	if (ret == 0)
		ret = capped_prepare(&v->console_log, path, CONSOLE_LOG_MAX, err);
	snprintf(path, sizeof(path), "%s/exec.log", dir);
	if (ret == 0)
		ret = capped_prepare(&v->exec_log, path, EXEC_LOG_MAX, err);
	v->log = (struct log){.write = write_log, .context = v};
	return ret;
}

static int create_logs(struct vmm *v, struct err *err)
{
	int ret = capped_create(&v->vmm_log, err);
	if (ret == 0)
		ret = capped_create(&v->console_log, err);
	return ret < 0 ? ret : capped_create(&v->exec_log, err);
}

/* From here on they wait for the loop. */
static void block_signals(struct vmm *v)
{
	sigemptyset(&v->signals);
	sigaddset(&v->signals, SIGTERM);
	sigaddset(&v->signals, SIGINT);
	sigaddset(&v->signals, SIGHUP);
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
	if (v->args.status_fd >= 0)
		watch_owner(v);
	v->timer_op.done = on_boot_timeout;
	if (v->args.boot_timeout_s > 0)
		start_timer(v, v->args.boot_timeout_s);
	return 0;
}

/* The machine, and a loop that has no ring yet. KVM is at work on its own thread from machine_create on. */
static int build(struct vmm *v, struct err *err)
{
	struct machine_options *o = &v->args.machine;
	char agent_args[256], vsock_path[256];
	snprintf(vsock_path, sizeof(vsock_path), "%s/vsock.sock", v->args.dir);
	v->echo_console = o->serial;
	o->vsock_path = vsock_path;
	o->console = on_console;
	o->ended = on_machine_end;
	o->context = v;
	o->log = &v->log;
	o->trace = v->args.traced ? &v->trace : NULL;
	int ret = machine_create(&v->machine, o, err);
	if (ret == 0)
		ret = loop_create(&v->loop, err);
	o->loop = v->loop;
	if (ret == 0)
		ret = open_disks(&v->args, agent_args, sizeof(agent_args), err);
	if (ret == 0)
		ret = machine_build(v->machine, o, err);
	return ret;
}

/* What the guest does not need for its first steps, beside them: the loop and what it listens to, sockets, logs. */
static int serve(struct vmm *v, struct err *err)
{
	char path[280];
	struct control_events events = {.ready = on_ready, .event = on_event, .context = v};
	snprintf(path, sizeof(path), "%s/vsock.sock_1024", v->args.dir);
	machine_start(v->machine);
	int ret = loop_open(v->loop, LOOP_ENTRIES, err);
	if (ret == 0)
		ret = start_watching(v, err);
	if (ret == 0)
		ret = machine_serve(v->machine, err);
	if (ret == 0)
		ret = create_logs(v, err);
	if (ret == 0)
		log_progress(v, "the machine runs");
	return ret < 0 ? ret : control_create(&v->control, path, &events, v->loop, &v->log, err);
}

/* The owner has its answer from the first process at once; the second is nobody's child. */
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
	char path[256];
	snprintf(path, sizeof(path), "%s/trace", v->args.dir);
	int ret = trace_write(&v->trace, path);
	if (ret < 0)
		log_line(&v->log, LOG_WARN, "cannot write %s: %s", path, strerror(-ret));
}

/* Everything after this is one end: reported, logged, cleaned up. */
static int run(struct vmm *v, struct err *err)
{
	block_signals(v);
	int ret = v->args.detach ? daemonise(err) : 0;
	if (ret == 0)
		ret = sandbox_dir_write_pid(v->args.lock_fd, err);
	if (ret == 0)
		ret = prepare_logs(v, err);
	if (ret == 0)
		ret = build(v, err);
	if (ret == 0)
		ret = serve(v, err);
	if (ret == 0 && (ret = loop_run(v->loop)) < 0)
		err_set(err, -ret, "the event loop failed: %s", strerror(-ret));
	return ret;
}

int main(int argc, char **argv)
{
	static struct vmm vmm; /* large, and one a process by nature */
	struct vmm *v = &vmm;
	struct err err = {0};
	char line[600];
	v->begun_ns = loop_now_ns();
	trace_mark(&v->trace, "main", NULL);
	prctl(PR_SET_NAME, "wisp-vmm");
	umask(077);
	pthread_mutex_init(&v->end_lock, NULL);
	int ret = parse(&v->args, &v->trace, argc, argv, &err);
	if (ret < 0) {
		fprintf(stderr, "wisp-vmm: %s\n", err.text);
		return EXIT_SET_UP;
	}
	ret = run(v, &err);
	machine_destroy(v->machine);
	control_destroy(v->control);
	loop_destroy(v->loop);
	trace_mark(&v->trace, "torn_down", NULL);
	if (v->args.traced)
		write_trace(v);
	if (ret < 0)
		snprintf(line, sizeof(line), "error %s", err.text);
	else
		snprintf(line, sizeof(line), "exit %s %s", v->end_reason, v->end_text);
	log_line(&v->log, LOG_INFO, "%s", line);
	capped_close(&v->vmm_log);
	capped_close(&v->console_log);
	capped_close(&v->exec_log);
	if (v->args.ephemeral)
		sandbox_dir_remove(v->args.dir);
	/* Last, so that whoever reads it finds everything done. */
	say(v, line);
	return ret < 0 ? EXIT_SET_UP : 0;
}
