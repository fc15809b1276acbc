/* SPDX-License-Identifier: Apache-2.0 */
/* What to do where there is no /dev/kvm, or it may not be opened: for the monitor, in its jail, and for the command. */
#ifndef WISP_SHARED_KVM_MISSING_H
#define WISP_SHARED_KVM_MISSING_H

#include <errno.h>
#include <stdbool.h>
#include <sys/stat.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif

struct kvm_missing {
	bool in_kernel;          /* KVM is there; only this /dev lacks it */
	bool in_vm;              /* this is a virtual machine */
	bool has_virtualization; /* the processor has, as far as it shows */
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
		return "the kernel has KVM, and only the device is missing: in a container, start that with "
		       "--device /dev/kvm";
	if (found->in_vm && !found->has_virtualization)
		return "this is a virtual machine without nested virtualization, as a sandbox of wisp always is: "
		       "enable "
		       "it in the hypervisor, or use the machine that this one runs on";
	return "load the module (modprobe kvm_intel or kvm_amd), and enable virtualization in the firmware or in the "
	       "outer VM";
}

/* EPERM is of a container's rules for devices. EACCES is of the device's mode, or of a security module. */
static inline const char *kvm_denied_advice(int errnum)
{
	return errnum == EPERM
	               ? "start the container with --device /dev/kvm"
	               : "join its group (usermod -aG kvm USER, then log in again; --group-add in a container), "
	                 "or run as root";
}

#endif
