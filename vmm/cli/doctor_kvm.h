/* SPDX-License-Identifier: Apache-2.0 */
/* What /dev/kvm is good for. */
#ifndef WISP_CLI_DOCTOR_KVM_H
#define WISP_CLI_DOCTOR_KVM_H

#include <stdint.h>

enum doctor_kvm {
	DOCTOR_KVM_OK,
	DOCTOR_KVM_MISSING,
	DOCTOR_KVM_DENIED,
	DOCTOR_KVM_BROKEN,   /* it opens, and a virtual machine does not run */
	DOCTOR_KVM_EMULATED, /* guest kernel mode is emulated an instruction at a time: no kernel boots */
};

/* *ns: what an iteration of a loop in guest kernel mode takes; *what and *errnum: what failed, where something did. */
enum doctor_kvm doctor_probe_kvm(double *ns, const char **what, int *errnum);

#endif
