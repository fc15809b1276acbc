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
#include <limits.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/monitor/cgroup.h"
#include "vmm/monitor/clock.h"
#include "vmm/monitor/control.h"
#include "vmm/monitor/counts.h"
#include "vmm/monitor/echo.h"
#include "vmm/monitor/ending.h"
#include "vmm/monitor/execlog.h"
#include "vmm/monitor/identity.h"
#include "vmm/monitor/jail.h"
#include "vmm/monitor/jail_check.h"
#include "vmm/monitor/last_words.h"
#include "vmm/monitor/lifetime.h"
#include "vmm/monitor/logs.h"
#include "vmm/monitor/machine.h"
#include "vmm/monitor/manage.h"
#include "vmm/monitor/owner.h"
#include "vmm/monitor/sandbox_dir.h"
#include "vmm/monitor/sigbus.h"
#include "vmm/monitor/signals.h"
#include "vmm/shared/container_of.h"
#include "vmm/shared/description.h"
#include "vmm/shared/end.h"
#include "vmm/shared/proto.h"
#include "vmm/shared/sandbox_files.h"

#define TEMPLATE_ENTRIES 16u
#define BACKING_FD (DESCRIPTION_SOCKET_FD + 1) /* a clone's */
#define ECHO_PATIENCE_MS 1000                  /* how long the end waits for whoever reads the console */

_Static_assert(SIGBUS_OWNER_FD == DESCRIPTION_SOCKET_FD, "the owner of the sandbox");

enum { EXIT_SET_UP = 125 };

struct vmm {
	struct description description;
	struct description_fds fds;
	struct loop *loop;
	struct log log;
	struct jail jail;
	struct logs logs;
	struct echo *echo; /* of the console; NULL: nobody wants one */
	struct control *control;
	struct machine *machine;
	struct manage *manage;
	struct snapshot_origin origin; /* of a restored machine, or a clone */
	struct backing backing;        /* of its memory */
	struct trace trace;
	struct counts counts;
	bool ready; /* atomic: set on the loop's thread, read on those of vCPUs */
	bool stop_asked;

	struct ending ending;
	struct last_words last_words;

	uint64_t begun_ns; /* CLOCK_MONOTONIC */
	int signal_fd;
	struct signalfd_siginfo signal;
	struct owner owner;
	struct clock clock;
	struct loop_op signal_op;
	struct lifetime lifetime;
};

static bool has(const struct vmm *v, enum description_flags flag)
{
	return v->description.flags & flag;
}

/* --- what is said, and to whom --- */

static void log_progress(struct vmm *v, const char *what)
{
	log_line(&v->log, LOG_INFO, "%s after %.3f ms", what, (double)(loop_now_ns() - v->begun_ns) / 1e6);
}

/* Tells the sandbox's owner. */
static void say(const char *line)
{
	char text[1024];
	snprintf(text, sizeof(text), "%s\n", line);
	/* An owner who did not hear it would wait for it in vain. */
	if (send(DESCRIPTION_SOCKET_FD, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		shutdown(DESCRIPTION_SOCKET_FD, SHUT_RDWR);
}

static void finish(struct vmm *v, enum wisp_end end, const char *text)
{
	if (ending_set(&v->ending, end, text))
		trace_mark(&v->trace, "ended");
	loop_stop(v->loop);
}

/* --- the machine's callbacks --- */

static void on_console(void *context, const void *data, size_t len)
{
	struct vmm *v = context;
	logfile_write(&v->logs.console, data, len);
	if (!__atomic_load_n(&v->ready, __ATOMIC_RELAXED))
		last_words_keep(&v->last_words, data, len);
	if (v->echo)
		echo_write(v->echo, data, len);
}

static void on_machine_end(void *context, enum wisp_end end, const char *text)
{
	finish(context, end, text);
}

static void write_state(struct vmm *v, const char *state)
{
	char line[64];
	snprintf(line, sizeof(line), SANDBOX_FILES_ALIVE_FORMAT, state, v->jail.layers, v->jail.engine);
	sandbox_files_write_state(v->fds.dir, line);
}

static void write_ready(struct vmm *v)
{
	write_state(v, has(v, DESCRIPTION_TEMPLATE) ? "template" : "ready");
}

static void on_ready(void *context)
{
	struct vmm *v = context;
	__atomic_store_n(&v->ready, true, __ATOMIC_RELAXED);
	lifetime_cancel(&v->lifetime, LIFETIME_BOOT);
	lifetime_ready(&v->lifetime);
	log_progress(v, "the guest is ready");
	trace_mark(&v->trace, "ready");
	write_ready(v);
	say("ready");
}

static void on_agent_lost(void *context)
{
	finish(context, WISP_END_INTERNAL, "the control connection ended while the guest's sessions were frozen");
}

static void on_event(
        void *context, uint64_t session, uint64_t realtime_ns, uint8_t type, const uint8_t *payload, size_t len)
{
	struct vmm *v = context;
	counts_note(&v->counts, type);
	lifetime_set_busy(&v->lifetime, v->counts.sessions_started > v->counts.sessions_ended);
	execlog_write(&v->logs.exec, session, realtime_ns, type, payload, len);
}

static void on_paused(void *context, bool paused)
{
	struct vmm *v = context;
	log_progress(v, paused ? "the sandbox is paused" : "the sandbox goes on");
	lifetime_set_paused(&v->lifetime, paused);
	if (paused)
		write_state(v, "paused");
	else
		write_ready(v);
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

static void on_boot_timeout(struct vmm *v)
{
	char text[160], where[64];
	machine_describe(v->machine, where, sizeof(where));
	snprintf(text, sizeof(text), "the guest was not ready after %g s, with %s",
	        v->description.boot_timeout_ms / 1000.0, where);
	finish(v, WISP_END_BOOT_TIMEOUT, text);
}

/* Its programs get the time to end that they get from whoever stops the sandbox. */
static void expire(struct vmm *v, enum wisp_end end, const char *why, uint64_t ms)
{
	uint32_t grace_ms = v->description.stop_grace_ms;
	char text[96];
	if (v->stop_asked)
		return;
	v->stop_asked = true;
	snprintf(text, sizeof(text), "%s %g s", why, (double)ms / 1000);
	ending_expect(&v->ending, end, text);
	log_line(&v->log, LOG_INFO, "%s: the sandbox ends", text);
	manage_stop(v->manage);
	if (!v->ready || !v->control || control_poweroff(v->control, grace_ms) < 0)
		finish(v, end, text);
	else
		lifetime_start(&v->lifetime, LIFETIME_GRACE);
}

static void on_limit(void *context, enum lifetime_limit limit, int res)
{
	struct vmm *v = context;
	if (res < 0)
		finish_blind(v, "how long the sandbox lives", res);
	else if (limit == LIFETIME_BOOT)
		on_boot_timeout(v);
	else if (limit == LIFETIME_MAX)
		expire(v, WISP_END_MAX_DURATION, "it has lived for", v->description.max_duration_ms);
	else if (limit == LIFETIME_IDLE)
		expire(v, WISP_END_IDLE_TIMEOUT, "no command has run in it for", v->description.idle_timeout_ms);
	else
		finish(v, WISP_END_POWEROFF, ""); /* the limit's */
}

static void start_lifetime(struct vmm *v)
{
	const struct description *d = &v->description;
	v->lifetime = (struct lifetime){.loop = v->loop,
	        .ms = {[LIFETIME_BOOT] = d->boot_timeout_ms,
	                [LIFETIME_MAX] = d->max_duration_ms,
	                [LIFETIME_IDLE] = has(v, DESCRIPTION_TEMPLATE) ? 0 : d->idle_timeout_ms,
	                [LIFETIME_GRACE] = d->stop_grace_ms ? d->stop_grace_ms : WISP_STOP_GRACE_MS_DEFAULT},
	        .passed = on_limit,
	        .context = v};
	lifetime_start(&v->lifetime, LIFETIME_BOOT);
	lifetime_start(&v->lifetime, LIFETIME_MAX);
}

static void read_signal(struct vmm *v)
{
	struct io_uring_sqe *sqe = loop_sqe(v->loop);
	io_uring_prep_read(sqe, v->signal_fd, &v->signal, sizeof(v->signal), 0);
	loop_start(v->loop, sqe, &v->signal_op);
}

static void on_clock_set(void *context)
{
	struct vmm *v = context;
	if (v->control)
		control_set_clock(v->control);
}

/*
 * The first asks the guest to stop within the sender's grace.
 * After that, the library's is of a caller who waits again, and kills the monitor in time; any other is the end.
 */
static void on_signal(struct loop_op *op, int res, uint32_t flags)
{
	struct vmm *v = container_of(op, struct vmm, signal_op);
	(void)flags;
	if (res < 0) {
		finish_blind(v, "for signals", res);
		return;
	}
	if (v->signal.ssi_signo == SIGCONT) {
		on_clock_set(v);
		read_signal(v);
		return;
	}
	/* Paused, it could not stop in order. */
	manage_stop(v->manage);
	/* The library says for how long it will wait; kill(1) does not. */
	uint32_t grace_ms = v->signal.ssi_code == SI_QUEUE && v->signal.ssi_int > 0 ? (uint32_t)v->signal.ssi_int : 0;
	if (v->stop_asked && grace_ms > 0) {
		read_signal(v);
		return;
	}
	/* A payload and a template have no agent to ask. */
	if (v->stop_asked || !v->ready || !v->control || control_poweroff(v->control, grace_ms) < 0) {
		finish(v, WISP_END_KILLED, "stopped hard");
		return;
	}
	v->stop_asked = true;
	read_signal(v);
}

static void on_owner_gone(void *context)
{
	struct vmm *v = context;
	if (!has(v, DESCRIPTION_DETACH) || !v->ready)
		finish(v, WISP_END_KILLED, "the program that started it is gone");
}

static void on_owner_lost(void *context, int res)
{
	finish_blind(context, "the program that started the sandbox", res);
}

static int watch_owner(struct vmm *v, struct err *err)
{
	v->owner = (struct owner){.loop = v->loop,
	        .socket = DESCRIPTION_SOCKET_FD,
	        .by_pid = !has(v, DESCRIPTION_DETACH),
	        .is_parent = !has(v, DESCRIPTION_FORK),
	        .gone = on_owner_gone,
	        .failed = on_owner_lost,
	        .context = v};
	return owner_watch(&v->owner, err);
}

/* --- life --- */

/* Everything the loop listens to besides the devices. */
static int start_watching(struct vmm *v, struct err *err)
{
	v->signal_fd = signals_open();
	if (v->signal_fd < 0)
		return err_set(err, -v->signal_fd, "cannot create a signalfd: %s", strerror(-v->signal_fd));
	v->signal_op.done = on_signal;
	read_signal(v);
	start_lifetime(v);
	return watch_owner(v, err);
}

static int start_control(struct vmm *v, struct err *err)
{
	struct control_events events = {.ready = on_ready, .event = on_event, .lost = on_agent_lost, .context = v};
	struct proto_thaw thaw;
	if (v->origin.state) {
		int ret = identity_make(&thaw, v->description.hostname, err);
		if (ret < 0)
			return ret;
		events.clone = &thaw;
	}
	int ret = control_create(&v->control, SANDBOX_FILES_AGENT, &events, v->loop, &v->log, err);
	v->clock = (struct clock){.loop = v->loop, .set = on_clock_set, .context = v};
	return ret < 0 ? ret : clock_watch(&v->clock, err);
}

static int fork_clone(void *context, int fd, struct snapshot_origin *origin, struct err *err);

static int start_managing(struct vmm *v, struct err *err)
{
	v->counts.loop = v->loop;
	v->counts.machine = v->machine;
	v->counts.gmem = v->machine ? machine_memory(v->machine) : &v->origin.gmem;
	v->counts.begun_ns = v->begun_ns;
	struct manage_options options = {.path = SANDBOX_FILES_MONITOR,
	        .loop = v->loop,
	        .log = &v->log,
	        .machine = v->machine,
	        .control = v->control,
	        .origin = has(v, DESCRIPTION_TEMPLATE) ? &v->origin : NULL,
	        .counts = &v->counts,
	        .paused = on_paused,
	        .fork = fork_clone,
	        .context = v};
	return manage_create(&v->manage, &options, err);
}

/* Set up everything that the guest does not need to start. Runs in parallel with its first steps. */
static int on_begun(void *context, struct err *err)
{
	struct vmm *v = context;
	if (v->fds.kernel >= 0)
		close(v->fds.kernel);
	v->fds.kernel = -1;
	jail_note_engine(&v->jail);
	int ret = start_watching(v, err);
	if (ret == 0)
		ret = logs_create(&v->logs, err);
	if (ret == 0 && !has(v, DESCRIPTION_BARE) && !has(v, DESCRIPTION_TEMPLATE))
		ret = start_control(v, err);
	if (ret == 0)
		ret = start_managing(v, err);
	if (ret == 0)
		log_line(&v->log, LOG_INFO, "the monitor's jail: %s", v->jail.text);
	if (ret == 0)
		log_progress(v, "the guest runs");
	/* Nobody else will say so. */
	if (ret == 0 && v->origin.state && !v->control)
		on_ready(v);
	return ret;
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
	        .origin = v->origin.state ? &v->origin : NULL,
	        .vsock_path = has(v, DESCRIPTION_BARE) ? NULL : SANDBOX_FILES_VSOCK,
	        .jail = &v->jail,
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

/* A template runs nothing: the loop serves those who fork it. */
static int run_template(struct vmm *v, struct err *err)
{
	struct loop_options options = {.entries = TEMPLATE_ENTRIES,
	        .engine = v->jail.engine,
	        .confine = v->jail.layers & WISP_LAYER_SECCOMP ? jail_enter_worker : NULL};
	int ret = loop_create(&v->loop, err);
	if (ret == 0)
		ret = loop_open(v->loop, &options, err);
	if (ret == 0)
		ret = on_begun(v, err);
	if (ret == 0 && (ret = loop_run(v->loop)) < 0)
		err_set(err, -ret, "the event loop failed: %s", strerror(-ret));
	return ret;
}

static int restore(struct vmm *v, struct err *err)
{
	const struct description *d = &v->description;
	int ret = snapshot_read(v->fds.snapshot, &d->layout, (uint64_t)d->memory_mib << 20, d->folder_count,
	        has(v, DESCRIPTION_PREFETCH | DESCRIPTION_PRIVATE), &v->origin, err);
	v->backing = (struct backing){.fd = v->fds.snapshot, .size = d->layout.data_offset + d->layout.data_size};
	return ret;
}

/* Everything that fails from here on is one end: reported, logged, cleaned up. */
static int run(struct vmm *v, struct err *err)
{
	bool clone = has(v, DESCRIPTION_FORK);
	int ret = cgroup_enter(&v->fds.cgroup, err);
	if (ret == 0 && has(v, DESCRIPTION_DETACH) && !clone)
		ret = owner_leave(err);
	/* What follows names files in the sandbox's directory only. */
	if (ret == 0 && fchdir(v->fds.dir) < 0)
		ret = err_set(err, errno, "cannot enter the sandbox's directory: %s", strerror(errno));
	if (ret == 0)
		ret = sandbox_dir_show_pid(v->fds.lock, err);
	if (ret == 0 && clone)
		ret = sandbox_dir_take_over_log(v->fds.dir, err);
	if (ret == 0 && has(v, DESCRIPTION_RESTORE))
		ret = restore(v, err);
	/* A clone's would be its source's. */
	v->counts.smaps_fd = clone ? -1 : counts_open_smaps();
	if (ret == 0 && !clone)
		ret = loop_choose_engine(&v->description.engine, err);
	if (ret == 0 && !clone)
		ret = jail_enter(&v->jail, WISP_LAYER_ALL, &v->description, &v->fds, err);
	if (ret < 0)
		return ret;
	v->description.engine = v->jail.engine;
	if (clone)
		jail_take_core(&v->jail);
	if (clone && has(v, DESCRIPTION_PREFETCH))
		gmem_prefetch(&v->origin.gmem);
	if (v->origin.state)
		trace_mark_uncounted(&v->trace, "memory_restored");
	logs_init(&v->logs, v->fds.dir);
	v->log = (struct log){.write = logfile_write_line, .context = &v->logs.vmm};
	if (has(v, DESCRIPTION_TEMPLATE))
		return run_template(v, err);
	if (has(v, DESCRIPTION_ECHO))
		ret = echo_create(&v->echo, STDERR_FILENO, err);
	if (ret == 0)
		ret = create_machine(v, err);
	return ret < 0 ? ret : machine_run(v->machine, err);
}

static void describe_end(struct vmm *v, char *line, size_t size)
{
	const char *words = v->ready || v->ending.end == WISP_END_KILLED ? "" : last_words_line(&v->last_words);
	snprintf(line, size, "exit %s %s%s%s%s%s", end_name(v->ending.end), v->ending.text,
	        *words ? "; its last words were \"" : "", words, *words ? "\"" : "",
	        backing_is_cut(&v->backing) ? "; the snapshot file that its memory comes from was truncated" : "");
}

/* The last report: for the owner, and, where the directory stays, for everyone else. */
static void report_end(struct vmm *v, const char *line)
{
	log_line(&v->log, LOG_INFO, "%s", line);
	logs_close(&v->logs);
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

/* From the description to the last report. `origin` is a clone's, else NULL. */
static int live(struct vmm *v, const struct snapshot_origin *origin)
{
	struct err err = {0};
	char line[900];
	v->begun_ns = loop_now_ns();
	ending_init(&v->ending);
	last_words_init(&v->last_words);
	if (receive_description(v) < 0)
		return EXIT_SET_UP;
	int ret = has(v, DESCRIPTION_FORK) == (origin != NULL)
	                  ? 0
	                  : err_set(&err, EPROTO, "a description for another process");
	if (origin)
		v->origin = *origin;
	trace_mark_at(&v->trace, "spawn", v->description.started_ns);
	trace_mark_at(&v->trace, "main", v->begun_ns);
	if (ret == 0)
		ret = run(v, &err);
	manage_close(v->manage);
	counts_close(&v->counts);
	machine_destroy(v->machine);
	echo_destroy(v->echo, ECHO_PATIENCE_MS);
	control_destroy(v->control);
	v->control = NULL;
	manage_destroy(v->manage);
	loop_destroy(v->loop);
	snapshot_destroy(&v->origin);
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

static struct vmm vmm; /* large, and one per process by nature */

/*
 * The clone's process has this one's memory with its file, and nothing else of it: no other descriptor, no thread, no
 * object. What the heap holds of the source is left as it is.
 */
static int fork_clone(void *context, int fd, struct snapshot_origin *origin, struct err *err)
{
	struct snapshot_origin own = *origin; /* it may be part of what is cleared below */
	struct backing backing = vmm.backing;
	struct jail jail = vmm.jail; /* the clone is in the same */
	(void)context;
	pid_t pid = fork();
	if (pid < 0)
		return err_set(err, errno, "cannot start the clone's process: %s", strerror(errno));
	if (pid > 0)
		return 0;
	setsid();
	dup2(fd, DESCRIPTION_SOCKET_FD);
	if (backing.size > 0)
		backing.fd = dup2(backing.fd, BACKING_FD);
	syscall(SYS_close_range, backing.size > 0 ? BACKING_FD + 1 : BACKING_FD, UINT_MAX, 0);
	vmm = (struct vmm){.backing = backing, .jail = jail};
	_exit(live(&vmm, &own));
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], JAIL_CHECK_OPTION) == 0)
		return jail_check();
	prctl(PR_SET_NAME, "wisp-vmm");
	/* The library leaves nothing else open, but others may start this program. */
	syscall(SYS_close_range, DESCRIPTION_SOCKET_FD + 1, UINT_MAX, 0);
	umask(077);
	sigbus_report();
	signals_block();
	return live(&vmm, NULL);
}
