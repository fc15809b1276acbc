/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/faults/inject.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <limits.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum result { MINUS, NIL, NUMBER, NEGATIVE };
enum variants { INTERRUPTED = 1, SHORT = 2, SUBMITS = 4 };

struct call {
	void (*real)(void); /* first: fault_enter jumps there */
	const char *name;
	enum result result;
	int error;
	int variants;
};

static struct plan *plan;

static void refuse_operation(struct io_uring *ring);

/* ---- Deciding ---- */

/* The program's own addresses begin here; a position-independent one is loaded elsewhere each time. */
extern const char program_begin[] __asm__("__executable_start") __attribute__((visibility("hidden")));

static void lock_plan(void)
{
	while (__atomic_test_and_set(&plan->lock, __ATOMIC_ACQUIRE))
		;
}

static void unlock_plan(void)
{
	__atomic_clear(&plan->lock, __ATOMIC_RELEASE);
}

static bool same(const struct site *site, const char *name, uint64_t caller)
{
	return site->caller == caller && strcmp(site->name, name) == 0;
}

static struct site *note(const char *name, uint64_t caller)
{
	for (uint32_t i = 0; i < plan->sites; i++)
		if (same(&plan->site[i], name, caller))
			return &plan->site[i];
	if (plan->sites == SITES_MAX)
		abort();
	struct site *site = &plan->site[plan->sites++];
	strncpy(site->name, name, sizeof(site->name) - 1);
	site->caller = caller;
	return site;
}

/* What to do to this call. */
static enum fault_how look_up(const char *name, uint64_t caller, bool fails, bool interrupts, bool shortens)
{
	enum fault_how how = FAULT_NONE;
	lock_plan();
	if (plan->how == FAULT_NONE) {
		struct site *site = note(name, caller);
		site->calls++;
		site->fails |= fails;
		site->interrupts |= interrupts;
		site->shortens |= shortens;
	} else if (same(&plan->target, name, caller) && --plan->target.calls == 0) {
		how = plan->how;
		plan->hits++;
	}
	unlock_plan();
	return how;
}

static bool is(const struct call *call, const char *name)
{
	return strcmp(call->name, name) == 0;
}

static mode_t type_of(int fd)
{
	struct stat st;
	return fstat(fd, &st) == 0 ? st.st_mode & S_IFMT : 0;
}

/*
 * Not waiting, nor moving bytes through a pipe, a terminal or an eventfd; nor reading a directory that is being
 * deleted, which is cleaning up.
 */
static bool can_fail(const struct call *call, const long *args)
{
	if (is(call, "read") || is(call, "readv") || is(call, "write")) {
		mode_t type = type_of((int)args[0]);
		return type != 0 && type != S_IFIFO && type != S_IFCHR;
	}
	if (is(call, "syscall"))
		return args[0] != SYS_getdents64 && args[0] != SYS_epoll_pwait2;
	return call->error != 0;
}

static bool does_not_wait(const struct call *call, const long *args)
{
	return ((is(call, "send") || is(call, "recv")) && (args[3] & MSG_DONTWAIT)) ||
	       (is(call, "sendmsg") && (args[2] & MSG_DONTWAIT)) || (is(call, "flock") && (args[1] & LOCK_NB)) ||
	       (is(call, "waitpid") && (args[2] & WNOHANG)) || (is(call, "waitid") && (args[3] & WNOHANG)) ||
	       (is(call, "write") && type_of((int)args[0]) == 0) ||
	       (is(call, "syscall") && args[0] != SYS_epoll_pwait2);
}

/* Of KVM's requests, only these are ended by a signal. */
static bool can_interrupt(const struct call *call, const long *args)
{
	return (call->variants & INTERRUPTED) && !does_not_wait(call, args) &&
	       (!is(call, "ioctl") || args[1] == (long)KVM_RUN || args[1] == (long)KVM_CREATE_VM);
}

/* Event and signal descriptors are read whole or not at all, and so is a short message sent on a Unix socket. */
static bool can_shorten(const struct call *call, const long *args)
{
	mode_t type = type_of((int)args[0]);
	return (call->variants & SHORT) && args[2] > 1 && !(is(call, "send") && args[2] <= 512) &&
	       (type == S_IFREG || type == S_IFSOCK || type == S_IFIFO);
}

/* Called by fault_enter with the call's arguments. True if it fails, with its result in args[0]. */
bool fault_decide(const struct call *call, const char *caller, long *args) __attribute__((used, visibility("hidden")));
bool fault_decide(const struct call *call, const char *caller, long *args)
{
	int saved = errno;
	if (!plan)
		return false;
	bool fails = can_fail(call, args), interrupts = can_interrupt(call, args), shortens = can_shorten(call, args);
	enum fault_how how = look_up(call->name, (uint64_t)(caller - program_begin), fails, interrupts, shortens);
	errno = saved;
	if (how == FAULT_SHORTEN)
		args[2] /= 2;
	if (how == FAULT_NONE && (call->variants & SUBMITS))
		refuse_operation((struct io_uring *)args[0]);
	if (how == FAULT_NONE || how == FAULT_SHORTEN)
		return false;
	int error = how == FAULT_INTERRUPT ? EINTR : call->error;
	switch (call->result) {
	case MINUS:
	case NIL:
		errno = error;
		args[0] = call->result == MINUS ? -1 : 0;
		break;
	case NUMBER: args[0] = error; break;
	case NEGATIVE: args[0] = -error; break;
	}
	return true;
}

/* ---- Calls, whatever their arguments: a call that does not fail finds registers and stack as its caller left them
 * ---- */

__asm__(".text\n"
        "fault_enter:\n"
        "	push %rbp\n"
        "	mov %rsp, %rbp\n"
        "	push %rax\n" /* how many vector registers a variadic call uses */
        "	push %r11\n"
        "	push %r9\n"
        "	push %r8\n"
        "	push %rcx\n"
        "	push %rdx\n"
        "	push %rsi\n"
        "	push %rdi\n"
        "	mov %r11, %rdi\n"
        "	mov 8(%rbp), %rsi\n"
        "	mov %rsp, %rdx\n"
        "	call fault_decide\n"
        "	test %al, %al\n"
        "	jnz 1f\n"
        "	pop %rdi\n"
        "	pop %rsi\n"
        "	pop %rdx\n"
        "	pop %rcx\n"
        "	pop %r8\n"
        "	pop %r9\n"
        "	pop %r11\n"
        "	pop %rax\n"
        "	pop %rbp\n"
        "	jmp *(%r11)\n"
        "1:	pop %rax\n"
        "	leave\n"
        "	ret\n");

#define CALL(NAME, RESULT, ERROR, VARIANTS)                                                                  \
	extern void real_##NAME(void) __asm__(#NAME);                                                        \
	extern const struct call call_##NAME;                                                                \
	const struct call call_##NAME                                                                        \
	        __attribute__((used, visibility("hidden"))) = {real_##NAME, #NAME, RESULT, ERROR, VARIANTS}; \
	__asm__(".text\n.globl fault_" #NAME "\n.type fault_" #NAME ", @function\nfault_" #NAME              \
	        ":\n	lea call_" #NAME "(%rip), %r11\n	jmp fault_enter\n");
#include "tests/faults/calls.h"
#undef CALL

/* ---- io_uring's operations: the kernel refuses the one that is to fail, and its completion says why ---- */

static struct {
	uint64_t user_data;
	int error;
	bool active;
} refused;

static uint64_t completion_of(uint64_t user_data)
{
	uint64_t done;
	memcpy(&done, (const void *)(uintptr_t)user_data, sizeof(done));
	return done - (uint64_t)(uintptr_t)program_begin;
}

static void refuse_operation(struct io_uring *ring)
{
	for (unsigned i = ring->sq.sqe_head; i != ring->sq.sqe_tail; i++) {
		struct io_uring_sqe *sqe = &ring->sq.sqes[i & ring->sq.ring_mask];
		char name[40];
		/* Its own completion is of no interest, and what it cancels ends in any case. */
		if (sqe->user_data == 0 || sqe->opcode == IORING_OP_ASYNC_CANCEL)
			continue;
		snprintf(name, sizeof(name), "io_uring operation %u", sqe->opcode);
		if (look_up(name, completion_of(sqe->user_data), true, false, false) == FAULT_NONE)
			continue;
		refused.user_data = sqe->user_data;
		refused.error = sqe->opcode == IORING_OP_ACCEPT ? EMFILE : ENOMEM;
		refused.active = true;
		sqe->opcode = UINT8_MAX;
	}
}

unsigned fault_io_uring_peek_batch_cqe(struct io_uring *ring, struct io_uring_cqe **cqes, unsigned count);
unsigned fault_io_uring_peek_batch_cqe(struct io_uring *ring, struct io_uring_cqe **cqes, unsigned count)
{
	unsigned n = io_uring_peek_batch_cqe(ring, cqes, count);
	for (unsigned i = 0; i < n && refused.active; i++) {
		if (cqes[i]->user_data != refused.user_data || cqes[i]->res != -EINVAL)
			continue;
		cqes[i]->res = -refused.error;
		refused.active = false;
	}
	return n;
}

/* ---- The plan ---- */

void fault_use(struct plan *new_plan)
{
	plan = new_plan;
}

int __lsan_do_recoverable_leak_check(void) __attribute__((weak));
const char *__asan_default_options(void) __attribute__((visibility("default")));

/* The reports of programs whose standard error is in a sandbox's directory. fault_leaked() searches for leaks. */
const char *__asan_default_options(void)
{
	return "log_path=/tmp/wisp-faults-asan:leak_check_at_exit=0";
}

bool fault_leaked(void)
{
	return __lsan_do_recoverable_leak_check && __lsan_do_recoverable_leak_check() != 0;
}

__attribute__((constructor)) static void find_plan(void)
{
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s", program_invocation_name);
	char *slash = strrchr(path, '/');
	if (!slash)
		return;
	snprintf(slash + 1, sizeof(path) - (size_t)(slash + 1 - path), "%s", PLAN_FILE);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	void *map = mmap(NULL, sizeof(*plan), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (map == MAP_FAILED)
		abort();
	plan = map;
	__atomic_fetch_add(&plan->begun, 1, __ATOMIC_RELAXED);
}

/* Only for a program that found its plan itself: a test that uses one for a while has set it to NULL. */
__attribute__((destructor)) static void leave_plan(void)
{
	struct plan *used = plan;
	plan = NULL;
	if (!used)
		return;
	/* The monitor frees nothing that the kernel could still write to when the ring has failed. */
	bool ring_failed = strncmp(used->target.name, "io_uring_submit", 15) == 0;
	if (!ring_failed && fault_leaked())
		__atomic_fetch_add(&used->leaked, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&used->ended, 1, __ATOMIC_RELAXED);
}
