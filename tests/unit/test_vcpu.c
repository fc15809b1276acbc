/* SPDX-License-Identifier: Apache-2.0 */
/* A vCPU's thread over a KVM that this program plays: failures of KVM_RUN, where a vCPU is, lost memory. */
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/test.h"
#include "vmm/monitor/sigbus.h"
#include "vmm/monitor/vcpu.h"

#define FAKE_FD 1000
#define PC 0xffffffff81000123ull
#define PC_TEXT "0xffffffff81000123"
#if defined(__x86_64__)
#define PC_NAME "rip"
#elif defined(__aarch64__)
#define PC_NAME "pc"
#endif

static struct fake {
	struct kvm_run run;
	int error;           /* what KVM_RUN fails with; EINTR: it runs until immediate_exit; 0: it succeeds */
	unsigned good_every; /* with an error: it succeeds every so many calls */
	unsigned exit_reason, flags, notify_flags; /* atomic: of a run that succeeds */
	unsigned calls;                            /* atomic */
	unsigned ends;                             /* atomic */
	unsigned sleeps;                           /* atomic: of the vCPU's thread, apart from nanosleep */
	char text[400];
} fake;

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

static int run_guest(void)
{
	unsigned call = __atomic_add_fetch(&fake.calls, 1, __ATOMIC_ACQ_REL);
	if (fake.good_every && call % fake.good_every == 0)
		return 0;
	while (fake.error == EINTR && !__atomic_load_n(&fake.run.immediate_exit, __ATOMIC_SEQ_CST))
		pause_ms(1);
	fake.run.exit_reason = __atomic_load_n(&fake.exit_reason, __ATOMIC_RELAXED);
	if (fake.run.exit_reason == KVM_EXIT_NOTIFY)
		fake.run.notify.flags = __atomic_load_n(&fake.notify_flags, __ATOMIC_RELAXED);
	fake.run.flags = (uint16_t)__atomic_load_n(&fake.flags, __ATOMIC_RELAXED);
	errno = fake.error;
	return fake.error ? -1 : 0;
}

/* In place of libc's, for the monitor's code in this program. */
int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	va_start(args, request);
	void *argument = va_arg(args, void *);
	va_end(args);
	CHECK_EQ(fd, FAKE_FD);
	if (request == KVM_RUN)
		return run_guest();
#if defined(__x86_64__)
	CHECK(request == KVM_GET_REGS);
	*(struct kvm_regs *)argument = (struct kvm_regs){.rip = PC};
#elif defined(__aarch64__)
	CHECK(request == KVM_GET_ONE_REG);
	*(uint64_t *)(uintptr_t)((struct kvm_one_reg *)argument)->addr = PC;
#endif
	return 0;
}

/* The same: a sleep that is over at once. So the debt of time grows with each call, as long as the test's thread waits.
 */
int clock_nanosleep(clockid_t clock, int flags, const struct timespec *time, struct timespec *left)
{
	(void)left;
	CHECK(clock == CLOCK_MONOTONIC && flags == 0 && time->tv_sec >= 0 && time->tv_sec < 1 << 24);
	__atomic_add_fetch(&fake.sleeps, 1, __ATOMIC_ACQ_REL);
	return 0;
}

static void ended(void *context, enum vcpu_end end, const char *text)
{
	(void)context, (void)end;
	snprintf(fake.text, sizeof(fake.text), "%s", text);
	__atomic_add_fetch(&fake.ends, 1, __ATOMIC_ACQ_REL);
}

static void no_access(void *context, uint64_t offset, void *data, unsigned len, bool is_write)
{
	(void)context, (void)offset, (void)data, (void)len, (void)is_write;
}

static struct bus memory = {.range = {{0, 4096, no_access, NULL}}, .count = 1};

static void begin(struct vcpu *vcpu, int error, unsigned good_every)
{
	fake = (struct fake){.error = error,
	        .good_every = good_every,
	        .exit_reason = KVM_EXIT_INTR,
	        .run = {.exit_reason = KVM_EXIT_INTR}};
	*vcpu = (struct vcpu){.fd = FAKE_FD, .index = 3, .run = &fake.run, .memory_bus = &memory, .ended = ended};
	CHECK_EQ(vcpu_start(vcpu, NULL), 0);
}

static void finish(struct vcpu *vcpu)
{
	vcpu_stop(vcpu);
	pthread_join(vcpu->thread, NULL); /* not vcpu_destroy: there is nothing to unmap or to close */
}

/* For something that the other thread does in a moment; the limit is for one that never does it. */
static bool becomes(unsigned *count, unsigned at_least)
{
	for (unsigned i = 0; i < 20000 && __atomic_load_n(count, __ATOMIC_ACQUIRE) < at_least; i++)
		pause_ms(1);
	return __atomic_load_n(count, __ATOMIC_ACQUIRE) >= at_least;
}

static void a_lasting_shortage_ends_the_vcpu(void)
{
	struct vcpu vcpu;
	begin(&vcpu, EAGAIN, 0);
	CHECK(becomes(&fake.ends, 1));
	finish(&vcpu);
	CHECK_EQ(fake.ends, 1);
	CHECK(fake.calls > 1 && fake.calls <= 1000);
	CHECK(strstr(fake.text, "pids.max") != NULL);
	CHECK(strstr(fake.text, "vCPU 3 at " PC_NAME " " PC_TEXT) != NULL);
}

/* What a vCPU that is started by the guest gets, now and then. */
static void a_passing_shortage_does_not(void)
{
	struct vcpu vcpu;
	begin(&vcpu, EAGAIN, 5);
	CHECK(becomes(&fake.calls, 5000));
	CHECK_EQ(fake.ends, 0);
	finish(&vcpu);
	CHECK_EQ(fake.ends, 0);
}

static void other_failures_say_what_and_where(void)
{
	struct vcpu vcpu;
	begin(&vcpu, EFAULT, 0);
	CHECK(becomes(&fake.ends, 1));
	finish(&vcpu);
	CHECK(strstr(fake.text, "truncated") != NULL && strstr(fake.text, "vCPU 3 at " PC_NAME) != NULL);
	CHECK_EQ(fake.calls, 1);
	begin(&vcpu, EIO, 0);
	CHECK(becomes(&fake.ends, 1));
	finish(&vcpu);
	CHECK(strstr(fake.text, "Input/output error") != NULL && strstr(fake.text, "vCPU 3 at " PC_NAME) != NULL);
	begin(&vcpu, ENOSYS, 0);
	CHECK(becomes(&fake.ends, 1));
	finish(&vcpu);
	CHECK(strstr(fake.text, "KVM cannot emulate an instruction of the guest, which accesses") != NULL);
}

/* A vCPU that does nothing else sleeps; one that exits for other reasons as often does not. */
static void bus_locks_are_rationed(void)
{
#if defined(__x86_64__)
	struct vcpu vcpu;
	begin(&vcpu, 0, 0);
	CHECK(becomes(&fake.calls, 5000));
	CHECK_EQ(__atomic_load_n(&fake.sleeps, __ATOMIC_ACQUIRE), 0);
	__atomic_store_n(&fake.exit_reason, KVM_EXIT_X86_BUS_LOCK, __ATOMIC_RELAXED);
	CHECK(becomes(&fake.sleeps, 1));
	unsigned calls = __atomic_load_n(&fake.calls, __ATOMIC_ACQUIRE);
	CHECK(becomes(&fake.calls, calls + 10)); /* it goes on */
	__atomic_store_n(&fake.exit_reason, KVM_EXIT_INTR, __ATOMIC_RELAXED);
	__atomic_store_n(&fake.flags, KVM_RUN_X86_BUS_LOCK, __ATOMIC_RELAXED);
	unsigned sleeps = __atomic_load_n(&fake.sleeps, __ATOMIC_ACQUIRE);
	CHECK(becomes(&fake.sleeps, sleeps + 2));
	finish(&vcpu);
	CHECK_EQ(fake.ends, 0);
#else
	SKIP("only x86 has locks of the bus");
#endif
}

static void a_lost_state_ends_the_vcpu(void)
{
	struct vcpu vcpu;
	begin(&vcpu, 0, 0);
	__atomic_store_n(&fake.exit_reason, KVM_EXIT_NOTIFY, __ATOMIC_RELAXED);
	unsigned calls = __atomic_load_n(&fake.calls, __ATOMIC_ACQUIRE);
	CHECK(becomes(&fake.calls, calls + 10)); /* a notification is harmless */
	CHECK_EQ(__atomic_load_n(&fake.ends, __ATOMIC_ACQUIRE), 0);
	__atomic_store_n(&fake.notify_flags, KVM_NOTIFY_CONTEXT_INVALID, __ATOMIC_RELAXED);
	CHECK(becomes(&fake.ends, 1));
	finish(&vcpu);
	CHECK(strstr(fake.text, "from taking interrupts") != NULL);
}

static void a_running_vcpu_is_described_and_goes_on(void)
{
	struct vcpu vcpu;
	char text[128];
	begin(&vcpu, EINTR, 0);
	for (unsigned i = 1; i < 10; i++) {
		CHECK(becomes(&fake.calls, 1));
		vcpu_describe(&vcpu, text, sizeof(text));
		CHECK_STR(text, "vCPU 3 at " PC_NAME " " PC_TEXT);
		CHECK(becomes(&fake.calls, i + 1)); /* it entered the guest again */
	}
	finish(&vcpu);
	vcpu_describe(&vcpu, text, sizeof(text));
	CHECK_STR(text, "vCPU 3 at " PC_NAME " " PC_TEXT);
	CHECK_EQ(fake.ends, 0);
}

static void a_vcpu_that_never_ran_says_so(void)
{
	struct vcpu vcpu = {.index = 1};
	char text[128];
	vcpu_describe(&vcpu, text, sizeof(text));
	CHECK_STR(text, "vCPU 1 has not run");
}

static void hold(void *context, uint64_t offset, void *data, unsigned len, bool is_write)
{
	(void)offset, (void)data, (void)len, (void)is_write;
	pthread_mutex_lock(context);
	pthread_mutex_unlock(context);
}

/* A vCPU that waits, in a device, for the thread that describes it. */
static void a_vcpu_that_does_not_answer_is_not_waited_for(void)
{
	pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
	struct vcpu vcpu;
	char text[128];
	memory.range[0] = (struct bus_range){0, 4096, hold, &held};
	pthread_mutex_lock(&held);
	fake = (struct fake){.exit_reason = KVM_EXIT_MMIO, .run = {.mmio = {.len = 4}}};
	vcpu = (struct vcpu){.fd = FAKE_FD, .run = &fake.run, .memory_bus = &memory, .ended = ended};
	CHECK_EQ(vcpu_start(&vcpu, NULL), 0);
	CHECK(becomes(&fake.calls, 1));
	vcpu_describe(&vcpu, text, sizeof(text));
	CHECK_STR(text, "vCPU 0 is outside the guest and does not answer");
	pthread_mutex_unlock(&held);
	finish(&vcpu);
}

static void touch(void *context, uint64_t offset, void *data, unsigned len, bool is_write)
{
	(void)offset, (void)is_write;
	memcpy(data, context, len);
}

/* On a vCPU's thread, and on the main one. */
static void lost_memory_is_explained(void)
{
	for (unsigned on_vcpu = 0; on_vcpu < 2; on_vcpu++) {
		int fds[2], status = 0;
		char text[512] = "";
		REQUIRE(pipe(fds) == 0);
		pid_t pid = fork();
		if (pid == 0) {
			int fd = memfd_create("kernel", MFD_CLOEXEC);
			if (ftruncate(fd, 4096) < 0)
				_exit(1);
			volatile char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
			if (ftruncate(fd, 0) < 0)
				_exit(1);
			dup2(fds[1], STDERR_FILENO);
			sigbus_report();
			if (!on_vcpu)
				_exit(page[0]);
			struct vcpu vcpu = {.fd = FAKE_FD, .run = &fake.run, .memory_bus = &memory, .ended = ended};
			memory.range[0] = (struct bus_range){0, 4096, touch, (void *)(uintptr_t)page};
			fake = (struct fake){.exit_reason = KVM_EXIT_MMIO, .run = {.mmio = {.len = 4}}};
			vcpu_start(&vcpu, NULL);
			pthread_join(vcpu.thread, NULL);
			_exit(2);
		}
		close(fds[1]);
		ssize_t n = read(fds[0], text, sizeof(text) - 1);
		close(fds[0]);
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == SIGBUS_STATUS);
		CHECK(n > 0 && strstr(text, "was truncated while the sandbox ran") != NULL);
	}
}

TEST_MAIN("vcpu", {"a_lasting_shortage_ends_the_vcpu", a_lasting_shortage_ends_the_vcpu},
        {"a_passing_shortage_does_not", a_passing_shortage_does_not},
        {"other_failures_say_what_and_where", other_failures_say_what_and_where},
        {"bus_locks_are_rationed", bus_locks_are_rationed}, {"a_lost_state_ends_the_vcpu", a_lost_state_ends_the_vcpu},
        {"a_running_vcpu_is_described_and_goes_on", a_running_vcpu_is_described_and_goes_on},
        {"a_vcpu_that_never_ran_says_so", a_vcpu_that_never_ran_says_so},
        {"a_vcpu_that_does_not_answer_is_not_waited_for", a_vcpu_that_does_not_answer_is_not_waited_for},
        {"lost_memory_is_explained", lost_memory_is_explained})
