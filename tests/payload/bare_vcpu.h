/* SPDX-License-Identifier: Apache-2.0 */
/* A VM with one vCPU, which does not run, as machine.c makes it: for the state that KVM keeps of it. */
#ifndef WISP_TEST_BARE_VCPU_H
#define WISP_TEST_BARE_VCPU_H

#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tests/unit/test.h"
#include "vmm/monitor/arch.h"
#include "vmm/monitor/bus.h"
#include "vmm/monitor/vcpu.h"

struct bare_vcpu {
	struct kvm kvm;
	struct gmem gmem;
	struct arch *arch;
	struct bus bus;
	struct vcpu vcpu;
};

static void on_arch_event(void *context, enum arch_event event)
{
	(void)context, (void)event;
}

static void on_arch_failure(void *context, const char *text)
{
	(void)context, (void)text;
}

static bool make_vcpu(struct bare_vcpu *b, struct err *err)
{
	*b = (struct bare_vcpu){0};
	struct arch_options options = {
	        .cpus = 1, .memory_bus = &b->bus, .event = on_arch_event, .failed = on_arch_failure};
	return arch_create(&b->arch, &options, err) == 0 && kvm_open(&b->kvm, err) == 0 &&
	       kvm_create_vm(&b->kvm, err) == 0 && arch_create_memory(&b->gmem, 64u << 20, err) == 0 &&
	       kvm_set_memory(&b->kvm, &b->gmem, err) == 0 && arch_furnish_vm(b->arch, &b->kvm, err) == 0 &&
	       vcpu_create(&b->vcpu, &b->kvm, err) == 0 && arch_complete_vm(b->arch, err) == 0 &&
	       arch_read_host(b->arch, &b->kvm, err) == 0 && arch_set_processor(b->arch, b->vcpu.fd, 0, err) == 0;
}

static void destroy_vcpu(struct bare_vcpu *b)
{
	vcpu_destroy(&b->vcpu);
	kvm_destroy(&b->kvm);
	arch_destroy(b->arch);
	gmem_destroy(&b->gmem);
}

/* Runs the cases, or skips them without a /dev/kvm. */
static int state_main(const struct test_case *cases, size_t count, int argc, char **argv)
{
	if (access("/dev/kvm", R_OK | W_OK) == 0)
		return test_main("state", cases, count, argc, argv);
	for (size_t i = 0; i < count; i++)
		printf("skip state/%s: no /dev/kvm\n", cases[i].name);
	return 0;
}

#endif
