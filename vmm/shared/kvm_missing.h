/* SPDX-License-Identifier: Apache-2.0 */
/* Advice for when /dev/kvm is missing or cannot be opened: shared by the command and by the monitor, in its jail. */
#ifndef WISP_SHARED_KVM_MISSING_H
#define WISP_SHARED_KVM_MISSING_H

#include <errno.h>
#include <stdbool.h>
#include <sys/stat.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif

struct kvm_missing {
	bool in_kernel;          /* the kernel has KVM; only this /dev lacks the device */
	bool in_vm;              /* this is a virtual machine, as far as the processor tells */
	bool has_virtualization; /* likewise */
};

static inline struct kvm_missing kvm_missing_find(void)
{
	struct kvm_missing found = {.has_virtualization = true};
	struct stat st;
	found.in_kernel = stat("/sys/class/misc/kvm", &st) == 0;
#ifdef __x86_64__
	unsigned eax, ebx, ecx = 0, edx, more = 0;
	__get_cpuid(1, &eax, &ebx, &ecx, &edx);
	__get_cpuid(0x80000001, &eax, &ebx, &more, &edx);
	found.in_vm = ecx & 1u << 31;
	found.has_virtualization = ecx & 1u << 5 || more & 1u << 2; /* VMX, SVM */
#endif
	return found;
}

static inline const char *kvm_missing_advice(const struct kvm_missing *found)
{
	if (found->in_kernel)
		return "the kernel has KVM, and only the device is missing: if this is a container, start it with "
		       "--device /dev/kvm";
	if (found->in_vm && !found->has_virtualization)
		return "this virtual machine has no nested virtualization (no sandbox of wisp has it): enable it in "
		       "the "
		       "hypervisor, or run wisp on the hypervisor's host";
#ifdef __aarch64__
	return "KVM requires a processor that starts Linux at EL2: in a virtual machine, enable nested virtualization";
#else
	return "load the module (modprobe kvm_intel or kvm_amd), and enable virtualization in the firmware or in the "
	       "outer VM";
#endif
}

/* EPERM comes from a container's rules for devices, EACCES from the device's mode or a security module. */
static inline const char *kvm_denied_advice(int errnum)
{
	return errnum == EPERM
	               ? "start the container with --device /dev/kvm"
	               : "join its group (usermod -aG kvm USER, then log in again; --group-add in a container), "
	                 "or run as root";
}

#endif
