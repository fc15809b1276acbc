/* SPDX-License-Identifier: Apache-2.0 */
/* What a processor's folder provides to a vCPU's thread: its exits decoded, its program counter. */
#ifndef WISP_MONITOR_KVM_ARCH_H
#define WISP_MONITOR_KVM_ARCH_H

#include <stdbool.h>
#include <stdint.h>

struct arch;
struct kvm_run;

/* True if the exit in `run` is particular to this processor (x86: port I/O); it is then carried out. */
bool kvm_arch_handle_exit(const struct arch *arch, struct kvm_run *run);

/* True if the guest locked the memory bus before the exit in `run`, and KVM saw it. */
bool kvm_arch_locked_bus(const struct kvm_run *run);

/*
 * Returns the address of the breakpoint instruction that caused the exit in `run`, or 0 if none did. kvm_arch_go_to
 * sets the vCPU back to it.
 */
uint64_t kvm_arch_breakpoint(const struct kvm_run *run, int vcpu_fd);
int kvm_arch_go_to(int vcpu_fd, uint64_t pc);

/* The program counter, for messages (0 if it cannot be read), and what the processor calls it. */
extern const char kvm_arch_pc_name[];
uint64_t kvm_arch_pc(int vcpu_fd);

#endif
