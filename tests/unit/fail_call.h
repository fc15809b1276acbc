/* SPDX-License-Identifier: Apache-2.0 */
/* A host that forbids something, to this thread and to the threads and children that it starts from then on. */
#ifndef WISP_TEST_FAIL_CALL_H
#define WISP_TEST_FAIL_CALL_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>

/* False if the kernel has no seccomp. */
static bool install_filter(struct sock_filter *code, size_t size)
{
	struct sock_fprog filter = {.len = (unsigned short)(size / sizeof(*code)), .filter = code};
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

/* From now on, this system call fails. */
__attribute__((unused)) static bool make_call_fail(unsigned number, unsigned errnum)
{
	struct sock_filter code[] = {
	        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
	        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | errnum),
	        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	return install_filter(code, sizeof(code));
}

/* From now on, this system call does nothing and returns 0 if its sixth argument has the flag. */
__attribute__((unused)) static bool make_call_idle(unsigned number, uint32_t flag)
{
	struct sock_filter code[] = {
	        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 3),
	        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5])), /* little-endian */
	        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, flag, 0, 1),
	        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 0),
	        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	return install_filter(code, sizeof(code));
}

#endif
