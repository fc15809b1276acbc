/* SPDX-License-Identifier: Apache-2.0 */
/* The whole machine on a real vCPU, driven by tests/payload/payload.c: its ends, its buses, its boot, its errors. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/engine.h"
#include "tests/unit/test.h"
#include "vmm/monitor/machine.h"
#include "vmm/shared/container_of.h"

#define HANG_S 30

struct run {
	struct loop *loop;
	int end; /* enum wisp_end; -1: none */
	char text[200];
	char console[4096];
	size_t console_len;
	struct __kernel_timespec limit;
	struct loop_op limit_op;
};

static const char *payload_path = "build/tests/payload/payload";

static void on_console(void *context, const void *data, size_t len)
{
	struct run *r = context;
	if (len > sizeof(r->console) - 1 - r->console_len)
		len = sizeof(r->console) - 1 - r->console_len;
	memcpy(r->console + r->console_len, data, len);
	r->console_len += len;
}

static void on_end(void *context, enum wisp_end end, const char *text)
{
	struct run *r = context;
	r->end = (int)end;
	snprintf(r->text, sizeof(r->text), "%s", text);
	loop_stop(r->loop);
}

static void on_limit(struct loop_op *op, int res, uint32_t flags)
{
	struct run *r = container_of(op, struct run, limit_op);
	(void)flags;
	if (res == -ETIME)
		loop_stop(r->loop);
}

/* What a run is made of; the descriptors are closed by run_machine or end_setup. */
struct setup {
	struct description description;
	struct description_fds fds;
	struct machine_options options;
};

static int start_limit(void *context, struct err *err)
{
	struct run *r = context;
	(void)err;
	struct io_uring_sqe *sqe = loop_sqe(r->loop);
	io_uring_prep_timeout(sqe, &r->limit, 0, 0);
	loop_start(r->loop, sqe, &r->limit_op);
	return 0;
}

static void set_up(struct setup *s, struct run *r, const char *name)
{
	*r = (struct run){.end = -1, .limit = {.tv_sec = HANG_S}, .limit_op = {.done = on_limit}};
	loop_create(&r->loop, NULL);
	description_init(&s->description);
	description_init_fds(&s->fds);
	s->description.flags = DESCRIPTION_BARE;
	s->description.cpus = 1;
	s->description.memory_mib = 32;
	s->description.engine = test_engine();
	description_set(s->description.kernel_args, sizeof(s->description.kernel_args), name);
	description_set(s->description.kernel_name, sizeof(s->description.kernel_name), payload_path);
	s->fds.kernel = open(payload_path, O_RDONLY | O_CLOEXEC);
	s->options = (struct machine_options){.description = &s->description,
	        .fds = &s->fds,
	        .console = on_console,
	        .begun = start_limit,
	        .ended = on_end,
	        .context = r,
	        .loop = r->loop};
}

static void end_setup(struct setup *s, struct run *r)
{
	loop_destroy(r->loop);
	description_close_fds(&s->fds);
}

/* Runs to the machine's end or the limit, in seconds. */
static void run_machine(struct setup *s, struct run *r, unsigned limit_s)
{
	struct machine *m = NULL;
	struct err err = {0};
	r->limit.tv_sec = limit_s;
	int ret = machine_create(&m, &s->options, &err);
	if (ret == 0)
		ret = machine_run(m, &err);
	if (ret < 0)
		printf("# %s\n", err.text);
	machine_destroy(m);
	end_setup(s, r);
}

static int end_of(const char *name)
{
	static struct run r;
	static struct setup s;
	set_up(&s, &r, name);
	run_machine(&s, &r, HANG_S);
	return r.end;
}

static void ends_are_told_apart(void)
{
	CHECK_EQ(end_of("payload=poweroff"), WISP_END_POWEROFF);
	CHECK_EQ(end_of("payload=reboot"), WISP_END_REBOOT);
	CHECK_EQ(end_of("payload=panic"), WISP_END_PANIC);
}

#if defined(__x86_64__)
static void triple_fault_is_reported(void)
{
	static struct run r;
	static struct setup s;
	set_up(&s, &r, "payload=shutdown");
	run_machine(&s, &r, HANG_S);
	/* A KVM that emulates kernel mode may give up on the fault instead of shutting down: an end all the same. */
	CHECK(r.end == WISP_END_TRIPLE_FAULT || r.end == WISP_END_INTERNAL);
	CHECK(strstr(r.text, "triple fault") || strstr(r.text, "emulate"));
}
#elif defined(__aarch64__)
static void psci_ends_the_machine(void)
{
	static struct run r;
	static struct setup s;
	CHECK_EQ(end_of("payload=system-off"), WISP_END_POWEROFF);
	/* Its only processor is off, for ever: the machine can still be stopped. */
	set_up(&s, &r, "payload=cpu-off");
	run_machine(&s, &r, 1);
	CHECK_EQ(r.end, -1);
}

static void psci_starts_processors(void)
{
	static struct run r;
	static struct setup s;
	set_up(&s, &r, "payload=processors");
	s.description.cpus = 2;
	run_machine(&s, &r, HANG_S);
	CHECK_EQ(r.end, WISP_END_POWEROFF);
}

/* KVM does not decode instructions: one that the processor does not describe ends the guest. */
static void an_instruction_that_kvm_does_not_know_is_reported(void)
{
	static struct run r;
	static struct setup s;
	set_up(&s, &r, "payload=pair");
	run_machine(&s, &r, HANG_S);
	CHECK_EQ(r.end, WISP_END_INTERNAL);
	CHECK(strstr(r.text, "KVM cannot emulate an instruction") && strstr(r.text, "(vCPU 0 at pc 0x2"));
	printf("# %s\n", r.text);
}
#endif

static void boot_tables_are_as_promised(void)
{
	CHECK_EQ(end_of("payload=boot"), WISP_END_POWEROFF);
}

static void unclaimed_addresses_read_as_ones(void)
{
	CHECK_EQ(end_of("payload=void"), WISP_END_POWEROFF);
}

static void emergency_write_reaches_the_console(void)
{
	static struct run r;
	static struct setup s;
	set_up(&s, &r, "payload=print");
	run_machine(&s, &r, HANG_S);
	CHECK_EQ(r.end, WISP_END_POWEROFF);
	CHECK_STR(r.console, "hello from the payload\n");
}

static void a_spinning_guest_is_stopped(void)
{
	static struct run r;
	static struct setup s;
	set_up(&s, &r, "payload=spin");
	run_machine(&s, &r, 1);
	CHECK_EQ(r.end, -1);
}

static void expect_refusal(struct setup *s, struct run *r, const char *word)
{
	struct machine *m = NULL;
	struct err err = {0};
	CHECK(machine_create(&m, &s->options, &err) < 0 && !m);
	if (!strstr(err.text, word)) {
		printf("# \"%s\" does not say \"%s\"\n", err.text, word);
		test_failed = true;
	}
	end_setup(s, r);
}

static void set_kernel(struct setup *s, const char *path)
{
	close(s->fds.kernel);
	s->fds.kernel = open(path, O_RDONLY | O_CLOEXEC);
	description_set(s->description.kernel_name, sizeof(s->description.kernel_name), path);
}

static void bad_files_are_refused_with_a_reason(void)
{
	static struct run r;
	static struct setup s;
	set_up(&s, &r, "");
	set_kernel(&s, "/etc/passwd");
	expect_refusal(&s, &r, "kernel /etc/passwd is not an ");
	set_up(&s, &r, "");
	set_kernel(&s, "/tmp");
	expect_refusal(&s, &r, "kernel /tmp is not a regular file");
	set_up(&s, &r, "");
	s.fds.initramfs = open("/dev/null", O_RDONLY | O_CLOEXEC);
	expect_refusal(&s, &r, "not a regular file");
	static char args[DESCRIPTION_KERNEL_ARGS_MAX];
	memset(args, 'x', sizeof(args) - 1);
	set_up(&s, &r, args);
	expect_refusal(&s, &r, "command line");
}

static int fail_to_begin(void *context, struct err *err)
{
	(void)context;
	return err_set(err, EIO, "could not begin");
}

/* Not one descriptor is left of a machine, whether it ran, was refused, or failed half-way. */
static void nothing_is_left_behind(void)
{
	static struct run r;
	static struct setup s;
	struct machine *m = NULL;
	struct err err = {0};
	int before = dup(0);
	close(before);
	end_of("payload=poweroff");
	/* A disk becomes the machine's. */
	set_up(&s, &r, "");
	s.description.disk_count = 1;
	s.description.disk[0].read_only = 1;
	s.fds.disk[0] = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
	set_kernel(&s, "/etc/passwd");
	CHECK(machine_create(&m, &s.options, NULL) < 0);
	CHECK_EQ(s.fds.disk[0], -1);
	end_setup(&s, &r);
	/* Given up before it ran. */
	set_up(&s, &r, "payload=spin");
	CHECK_EQ(machine_create(&m, &s.options, NULL), 0);
	machine_destroy(m);
	end_setup(&s, &r);
	/* Something fails when the guest runs already: what is to be started with it, */
	set_up(&s, &r, "payload=spin");
	s.options.begun = fail_to_begin;
	CHECK_EQ(machine_create(&m, &s.options, NULL), 0);
	CHECK_EQ(machine_run(m, &err), -EIO);
	CHECK_STR(err.text, "could not begin");
	machine_destroy(m);
	end_setup(&s, &r);
	/* or a socket. */
	err = (struct err){0};
	set_up(&s, &r, "payload=spin");
	char taken[] = "/tmp/wisp-test-machine-XXXXXX";
	close(mkstemp(taken));
	s.options.vsock_path = taken;
	CHECK_EQ(machine_create(&m, &s.options, NULL), 0);
	CHECK_EQ(machine_run(m, &err), -EADDRINUSE);
	CHECK(strstr(err.text, taken));
	machine_destroy(m);
	end_setup(&s, &r);
	CHECK_EQ(unlink(taken), 0); /* it was not the machine's */
	int after = dup(0);
	close(after);
	CHECK_EQ(after, before);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{"ends_are_told_apart", ends_are_told_apart},
#if defined(__x86_64__)
		{"triple_fault_is_reported", triple_fault_is_reported},
#elif defined(__aarch64__)
		{"psci_ends_the_machine", psci_ends_the_machine},
		{"psci_starts_processors", psci_starts_processors},
		{"an_instruction_that_kvm_does_not_know_is_reported",
		        an_instruction_that_kvm_does_not_know_is_reported},
#endif
		{"boot_tables_are_as_promised", boot_tables_are_as_promised},
		{"unclaimed_addresses_read_as_ones", unclaimed_addresses_read_as_ones},
		{"emergency_write_reaches_the_console", emergency_write_reaches_the_console},
		{"a_spinning_guest_is_stopped", a_spinning_guest_is_stopped},
		{"bad_files_are_refused_with_a_reason", bad_files_are_refused_with_a_reason},
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
