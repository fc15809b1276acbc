/* SPDX-License-Identifier: Apache-2.0 */
/* The whole machine on a real vCPU, driven by tests/payload/payload.c: its ends, its buses, its boot, its errors. */
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/test.h"
#include "vmm/monitor/machine.h"

#define HANG_S 30

struct run {
	struct loop *loop;
	int end; /* enum machine_end; -1: none */
	char text[200];
	char console[4096];
	size_t console_len;
	struct __kernel_timespec limit;
	struct loop_op limit_op;
};

static const char *payload_path = "build/tests/payload/payload.elf";

static void on_console(void *context, const void *data, size_t len)
{
	struct run *r = context;
	if (len > sizeof(r->console) - 1 - r->console_len)
		len = sizeof(r->console) - 1 - r->console_len;
	memcpy(r->console + r->console_len, data, len);
	r->console_len += len;
}

static void on_end(void *context, enum machine_end end, const char *text)
{
	struct run *r = context;
	r->end = (int)end;
	snprintf(r->text, sizeof(r->text), "%s", text);
	loop_stop(r->loop);
}

static void on_limit(struct loop_op *op, int res, uint32_t flags)
{
	struct run *r = (struct run *)((char *)op - offsetof(struct run, limit_op));
	(void)flags;
	if (res == -ETIME)
		loop_stop(r->loop);
}

static struct machine_options options_for(struct run *r, const char *name)
{
	*r = (struct run){.end = -1, .limit = {.tv_sec = HANG_S}, .limit_op = {.done = on_limit}};
	loop_create(&r->loop, NULL);
	return (struct machine_options){.cpus = 1,
	        .memory_mib = 32,
	        .kernel_path = payload_path,
	        .kernel_args = name,
	        .agent_args = "",
	        .console = on_console,
	        .ended = on_end,
	        .context = r,
	        .loop = r->loop};
}

/* Runs to the machine's end or the limit, in seconds. */
static void run_machine(struct run *r, const struct machine_options *o, unsigned limit_s)
{
	struct machine *m = NULL;
	struct err err = {0};
	r->limit.tv_sec = limit_s;
	int ret = machine_create(&m, o, &err);
	if (ret == 0)
		ret = machine_build(m, o, &err);
	if (ret == 0) {
		machine_start(m);
		ret = loop_open(r->loop, 64, &err);
	}
	if (ret == 0) {
		struct io_uring_sqe *sqe = loop_sqe(r->loop);
		io_uring_prep_timeout(sqe, &r->limit, 0, 0);
		loop_start(r->loop, sqe, &r->limit_op);
		ret = machine_serve(m, &err);
	}
	if (ret == 0)
		loop_run(r->loop);
	else
		printf("# %s\n", err.text);
	machine_destroy(m);
	loop_destroy(r->loop);
}

static int end_of(const char *name)
{
	static struct run r;
	struct machine_options o = options_for(&r, name);
	run_machine(&r, &o, HANG_S);
	return r.end;
}

static void ends_are_told_apart(void)
{
	CHECK_EQ(end_of("payload=poweroff"), MACHINE_POWEROFF);
	CHECK_EQ(end_of("payload=reboot"), MACHINE_REBOOT);
	CHECK_EQ(end_of("payload=panic"), MACHINE_PANIC);
}

static void triple_fault_is_reported(void)
{
	static struct run r;
	struct machine_options o = options_for(&r, "payload=shutdown");
	run_machine(&r, &o, HANG_S);
	/* A KVM that emulates kernel mode may give up on the fault instead of shutting down: an end all the same. */
	CHECK(r.end == MACHINE_TRIPLE_FAULT || r.end == MACHINE_ERROR);
	CHECK(strstr(r.text, "triple fault") || strstr(r.text, "emulate"));
}

static void boot_tables_are_as_promised(void)
{
	CHECK_EQ(end_of("payload=boot"), MACHINE_POWEROFF);
}

static void unclaimed_addresses_read_as_ones(void)
{
	CHECK_EQ(end_of("payload=void"), MACHINE_POWEROFF);
}

static void emergency_write_reaches_the_console(void)
{
	static struct run r;
	struct machine_options o = options_for(&r, "payload=print");
	run_machine(&r, &o, HANG_S);
	CHECK_EQ(r.end, MACHINE_POWEROFF);
	CHECK_STR(r.console, "hello from CPL 0\n");
}

static void a_spinning_guest_is_stopped(void)
{
	static struct run r;
	struct machine_options o = options_for(&r, "payload=spin");
	run_machine(&r, &o, 1);
	CHECK_EQ(r.end, -1);
}

static void expect_refusal(const struct machine_options *o, struct run *r, const char *word)
{
	struct machine *m = NULL;
	struct err err = {0};
	CHECK(machine_create(&m, o, &err) < 0 || machine_build(m, o, &err) < 0);
	if (!strstr(err.text, word)) {
		printf("# \"%s\" does not say \"%s\"\n", err.text, word);
		test_failed = true;
	}
	machine_destroy(m);
	loop_destroy(r->loop);
}

static void bad_options_are_refused_with_a_reason(void)
{
	static struct run r;
	struct machine_options o = options_for(&r, "");
	o.kernel_path = "/nonexistent/vmlinux";
	expect_refusal(&o, &r, "cannot open kernel /nonexistent/vmlinux");
	o = options_for(&r, "");
	o.kernel_path = "/etc/passwd";
	expect_refusal(&o, &r, "not an ELF file");
	o = options_for(&r, "");
	o.kernel_path = "/tmp";
	expect_refusal(&o, &r, "not a regular file");
	o = options_for(&r, "");
	o.memory_mib = 4;
	expect_refusal(&o, &r, "MiB of memory: choose");
	o = options_for(&r, "");
	o.cpus = 1000;
	expect_refusal(&o, &r, "vCPUs: choose");
	o = options_for(&r, "");
	o.initramfs_path = "/dev/null";
	expect_refusal(&o, &r, "not a regular file");
	static char args[4096];
	memset(args, 'x', sizeof(args) - 1);
	o = options_for(&r, args);
	expect_refusal(&o, &r, "command line");
}

/* Not one descriptor is left of a machine, whether it ran or was refused. */
static void nothing_is_left_behind(void)
{
	int before = dup(0);
	close(before);
	end_of("payload=poweroff");
	static struct run r;
	struct machine_options o = options_for(&r, "");
	o.disk_count = 1;
	o.disk[0] = (struct machine_disk){.fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC), .readonly = true};
	o.kernel_path = "/nonexistent";
	expect_refusal(&o, &r, "cannot open kernel");
	/* Given up as soon as it has begun, while KVM is at work. */
	struct machine *m = NULL;
	o = options_for(&r, "");
	CHECK_EQ(machine_create(&m, &o, NULL), 0);
	machine_destroy(m);
	loop_destroy(r.loop);
	/* Something fails when the guest runs already: the ring, */
	o = options_for(&r, "payload=spin");
	CHECK_EQ(machine_create(&m, &o, NULL), 0);
	CHECK_EQ(machine_build(m, &o, NULL), 0);
	machine_start(m);
	machine_destroy(m);
	loop_destroy(r.loop);
	/* or a socket. */
	o = options_for(&r, "payload=spin");
	char taken[] = "/tmp/wisp-test-machine-XXXXXX";
	close(mkstemp(taken));
	o.vsock_path = taken;
	struct err err = {0};
	CHECK_EQ(machine_create(&m, &o, NULL), 0);
	CHECK_EQ(machine_build(m, &o, NULL), 0);
	machine_start(m);
	CHECK_EQ(loop_open(r.loop, 64, NULL), 0);
	CHECK_EQ(machine_serve(m, &err), -EADDRINUSE);
	CHECK(strstr(err.text, taken));
	machine_destroy(m);
	loop_destroy(r.loop);
	CHECK_EQ(unlink(taken), 0); /* it was not the machine's */
	int after = dup(0);
	close(after);
	CHECK_EQ(after, before);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
	        {"ends_are_told_apart", ends_are_told_apart},
	        {"triple_fault_is_reported", triple_fault_is_reported},
	        {"boot_tables_are_as_promised", boot_tables_are_as_promised},
	        {"unclaimed_addresses_read_as_ones", unclaimed_addresses_read_as_ones},
	        {"emergency_write_reaches_the_console", emergency_write_reaches_the_console},
	        {"a_spinning_guest_is_stopped", a_spinning_guest_is_stopped},
	        {"bad_options_are_refused_with_a_reason", bad_options_are_refused_with_a_reason},
	        {"nothing_is_left_behind", nothing_is_left_behind},
	};
	const char *path = getenv("PAYLOAD");
	if (path)
		payload_path = path;
	if (access("/dev/kvm", R_OK | W_OK) != 0) {
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
			printf("skip machine/%s: no /dev/kvm\n", cases[i].name);
		return 0;
	}
	return test_main("machine", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
