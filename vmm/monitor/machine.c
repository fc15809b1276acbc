/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/machine.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "virtio/console.h"
#include "virtio/mmio.h"
#include "virtio/vsock.h"
#include "vmm/monitor/x86_64/boot.h"
#include "vmm/monitor/bus.h"
#include "vmm/monitor/gmem.h"
#include "vmm/monitor/x86_64/ioapic.h"
#include "vmm/monitor/kvm.h"
#include "vmm/monitor/x86_64/platform.h"
#include "vmm/monitor/vcpu.h"

#define GUEST_CID 3u
#define DEVICES_MAX (MACHINE_DISKS_MAX + 2)

_Static_assert(BOOT_IRQ(DEVICES_MAX - 1) < IOAPIC_PINS_MAX, "a pin for every device");

/*
 * What every guest kernel is told. reboot=k: a reset is one write to port 0x64; panic_warm: a panic's reset leaves the
 * warm boot flag, by which it is told from a reboot; panic=-1: at once. loglevel=3 after quiet keeps a mitigation's
 * notice, which some processors cause, off a console that costs exits. Few words: each is compared with every parameter
 * there is.
 */
#define KERNEL_ARGS "reboot=k,panic_warm panic=-1 tsc=reliable quiet loglevel=3"

/* How far the loop's thread is; KVM's half waits for it where it needs something of the other. */
enum progress {
	BEGUN,
	MEMORY_MAPPED,
	CPUID_READ,
	BUILT, /* and to be started */
	GIVEN_UP,
};

struct machine {
	bool kvm_begun;       /* atomic */
	pthread_mutex_t lock; /* guards what follows, and orders what one thread has made for the other */
	pthread_cond_t changed;
	enum progress progress;
	bool kvm_over; /* the VM and its vCPUs are ready, or: */
	struct err kvm_err;

	struct gmem gmem;
	struct kvm kvm;
	struct kvm_cpuid2 *cpuid;
	struct kvm_entry entry;
	struct trace *trace;
	struct bus memory_bus, port_bus;
	struct platform platform;
	struct ioapic ioapic;
	unsigned cpus;
	struct vcpu vcpu[BOOT_CPUS_MAX];
	unsigned devices;
	struct virtio_dev *device[DEVICES_MAX];
	struct virtio_dev *vsock; /* one of them, or NULL */
	struct virtio_mmio transport[DEVICES_MAX];
	struct virtio_env env;
	void (*ended)(void *context, enum machine_end end, const char *text);
	void *context;
	bool end_told; /* atomic */
};

static void end(struct machine *m, enum machine_end why, const char *text)
{
	if (!__atomic_exchange_n(&m->end_told, true, __ATOMIC_ACQ_REL))
		m->ended(m->context, why, text);
}

static void vcpu_ended(void *context, enum vcpu_end why, const char *text)
{
	end(context, why == VCPU_SHUTDOWN ? MACHINE_TRIPLE_FAULT : MACHINE_ERROR, text);
}

static void platform_event(void *context, enum platform_event event)
{
	struct machine *m = context;
	switch (event) {
	case PLATFORM_RESET:
		if (boot_panicked(&m->gmem))
			end(m, MACHINE_PANIC, "the guest's kernel panicked");
		else
			end(m, MACHINE_REBOOT, "the guest asked for a reboot");
		break;
	case PLATFORM_POWEROFF: end(m, MACHINE_POWEROFF, "the guest powered off"); break;
	case PLATFORM_BOOT_FAILED: end(m, MACHINE_BOOT_FAILED, "the agent could not set up the guest"); break;
	}
}

static void route(void *context, const uint64_t *entry, unsigned pins)
{
	struct machine *m = context;
	if (kvm_arch_route(m->kvm.vm_fd, entry, pins) < 0)
		end(m, MACHINE_ERROR, "KVM refused to route the guest's interrupts");
}

/* What a device said while its pin was masked is lost: it says it again. */
static void unmasked(void *context, unsigned pin)
{
	struct machine *m = context;
	for (unsigned i = 0; i < m->devices; i++) {
		if (BOOT_IRQ(i) == pin)
			virtio_interrupt_again(m->device[i]);
	}
}

static int add_ioapic(struct machine *m, bool serial, struct err *err)
{
	unsigned last = BOOT_IRQ(m->devices - 1);
	m->ioapic.route = route;
	m->ioapic.unmasked = unmasked;
	m->ioapic.context = m;
	ioapic_init(&m->ioapic, 1 + (serial && last < BOOT_IRQ_SERIAL ? BOOT_IRQ_SERIAL : last));
	int ret = bus_add(&m->memory_bus, IOAPIC_ADDR, IOAPIC_SIZE, ioapic_access, &m->ioapic);
	return ret < 0 ? err_set(err, -ret, "too many devices") : 0;
}

static void transport_access(void *context, uint64_t offset, void *data, unsigned len, bool is_write)
{
	if (is_write)
		virtio_mmio_write(context, offset, data, len);
	else
		virtio_mmio_read(context, offset, data, len);
}

static uint64_t device_addr(unsigned index)
{
	return BOOT_MMIO_ADDR + (uint64_t)index * VIRTIO_MMIO_WINDOW;
}

/* --- the two halves of the start --- */

static void advance(struct machine *m, enum progress to)
{
	pthread_mutex_lock(&m->lock);
	m->progress = to;
	pthread_cond_broadcast(&m->changed);
	pthread_mutex_unlock(&m->lock);
}

/* 0, or -ECANCELED: nothing will be started. */
static int await(struct machine *m, enum progress wanted)
{
	pthread_mutex_lock(&m->lock);
	while (m->progress < wanted)
		pthread_cond_wait(&m->changed, &m->lock);
	int ret = m->progress == GIVEN_UP ? -ECANCELED : 0;
	pthread_mutex_unlock(&m->lock);
	return ret;
}

static void await_kvm(struct machine *m)
{
	pthread_mutex_lock(&m->lock);
	while (!m->kvm_over)
		pthread_cond_wait(&m->changed, &m->lock);
	pthread_mutex_unlock(&m->lock);
}

/* --- devices: each is created by name; the order gives addresses, interrupts and the disks' letters --- */

static int add_device(struct machine *m, struct virtio_dev *dev, struct err *err)
{
	unsigned i = m->devices++;
	m->device[i] = dev;
	virtio_mmio_init(&m->transport[i], dev);
	int ret = bus_add(&m->memory_bus, device_addr(i), VIRTIO_MMIO_WINDOW, transport_access, &m->transport[i]);
	return ret < 0 ? err_set(err, -ret, "too many devices") : 0;
}

static int add_console(struct machine *m, const struct machine_options *o, struct err *err)
{
	struct console_options options = {.output = o->console, .context = o->context};
	struct virtio_dev *dev;
	int ret = console_create(&dev, &m->env, &options, err);
	return ret < 0 ? ret : add_device(m, dev, err);
}

/* A queue a vCPU, so that none waits for another's lock. */
static int add_disk(struct machine *m, const struct machine_disk *disk, struct err *err)
{
	struct blk_options options = {.fd = disk->fd,
	        .readonly = disk->readonly,
	        .cache = disk->cache,
	        .queues = m->cpus < VIRTIO_QUEUES_MAX ? m->cpus : VIRTIO_QUEUES_MAX};
	memcpy(options.id, disk->serial, sizeof(options.id));
	struct virtio_dev *dev;
	int ret = blk_create(&dev, &m->env, &options, err);
	if (ret < 0) {
		close(disk->fd);
		return ret;
	}
	return add_device(m, dev, err);
}

static int add_vsock(struct machine *m, const struct machine_options *o, struct err *err)
{
	struct vsock_options options = {.cid = GUEST_CID, .socket_path = o->vsock_path};
	int ret = vsock_create(&m->vsock, &m->env, &options, err);
	return ret < 0 ? ret : add_device(m, m->vsock, err);
}

static int add_devices(struct machine *m, const struct machine_options *o, struct err *err)
{
	int ret = 0;
	size_t disks = 0, count = o->disk_count;
	if (count > MACHINE_DISKS_MAX) {
		ret = err_set(err, EINVAL, "%zu disks: at most %u", count, MACHINE_DISKS_MAX);
		count = MACHINE_DISKS_MAX;
	}
	for (; disks < count && ret == 0; disks++)
		ret = add_disk(m, &o->disk[disks], err);
	for (; disks < count; disks++)
		close(o->disk[disks].fd);
	if (ret == 0 && o->vsock_path)
		ret = add_vsock(m, o, err);
	if (ret == 0)
		ret = add_console(m, o, err);
	return ret;
}

/* Interrupts leave, and kicks arrive, as eventfds inside the host's kernel. */
static int bind_device(struct machine *m, unsigned index, struct err *err)
{
	struct virtio_dev *dev = m->device[index];
	int ret = kvm_bind_irq(&m->kvm, dev->irq_fd, BOOT_IRQ(index));
	for (unsigned q = 0; q < dev->queue_count && ret == 0; q++)
		ret = kvm_bind_doorbell(
		        &m->kvm, dev->queue[q].kick_fd, gpa(device_addr(index) + VIRTIO_MMIO_KICK_OFFSET), q);
	return ret < 0 ? err_set(err, -ret, "KVM refused the eventfds of %s: %s", dev->type->name, strerror(-ret)) : 0;
}

/* --- the boot --- */

static int make_cmdline(
        const struct machine *m, const struct machine_options *o, char *to, size_t size, struct err *err)
{
	int used = snprintf(to, size, "%s %s", KERNEL_ARGS,
	        o->serial ? "console=ttyS0 earlyprintk=ttyS0 8250.nr_uarts=1 ignore_loglevel" : "console=hvc0");
	for (unsigned i = 0; i < m->devices && used < (int)size; i++)
		used += snprintf(to + used, size - (size_t)used, " virtio_mmio.device=4K@0x%" PRIx64 ":%u",
		        device_addr(i), BOOT_IRQ(i));
	if (used < (int)size)
		used += snprintf(to + used, size - (size_t)used, "%s%s%s%s", *o->kernel_args ? " " : "", o->kernel_args,
		        *o->agent_args ? " -- " : "", o->agent_args);
	if (used >= (int)size)
		return err_set(
		        err, E2BIG, "the kernel's command line would have %d bytes, at most %zu fit", used, size - 1);
	return 0;
}

static int load_guest(struct machine *m, const struct machine_options *o, struct err *err)
{
	char cmdline[BOOT_CMDLINE_MAX];
	int ret = make_cmdline(m, o, cmdline, sizeof(cmdline), err);
	if (ret < 0)
		return ret;
	struct boot_config config = {.kernel_path = o->kernel_path,
	        .initramfs_path = o->initramfs_path,
	        .cmdline = cmdline,
	        .cpus = o->cpus,
	        .pins = m->ioapic.pins};
	return boot_load(&config, &m->gmem, &m->entry, err);
}

/* --- KVM's half --- */

static int create_vm(struct machine *m, struct err *err)
{
	int ret = kvm_create_vm(&m->kvm, err);
	if (ret == 0)
		ret = await(m, MEMORY_MAPPED);
	if (ret == 0)
		ret = kvm_furnish_vm(&m->kvm, &m->gmem, err);
	trace_mark(m->trace, "vm_created", "");
	for (unsigned i = 0; i < m->cpus && ret == 0; i++)
		ret = vcpu_create(&m->vcpu[i], &m->kvm, err);
	if (ret == 0)
		ret = await(m, CPUID_READ);
	for (unsigned i = 0; i < m->cpus && ret == 0; i++)
		ret = kvm_arch_set_processor(m->vcpu[i].fd, m->cpuid, i, m->cpus, err);
	for (unsigned i = 0; i < m->cpus && ret == 0; i++)
		vcpu_start_tracing(&m->vcpu[i]);
	if (ret == 0)
		ret = await(m, BUILT);
	for (unsigned i = 0; i < m->devices && ret == 0; i++)
		ret = bind_device(m, i, err);
	if (ret == 0)
		ret = kvm_arch_set_entry(m->vcpu[0].fd, &m->entry, err);
	trace_mark(m->trace, "vcpu_ready", "");
	return ret;
}

/* On the first vCPU's thread, which then runs it: that is one thread less to be woken. */
static bool prepare_kvm(void *context)
{
	struct machine *m = context;
	struct err err = {0};
	__atomic_store_n(&m->kvm_begun, true, __ATOMIC_RELAXED);
	int ret = create_vm(m, &err);
	pthread_mutex_lock(&m->lock);
	m->kvm_err = err;
	m->kvm_over = true;
	pthread_cond_broadcast(&m->changed);
	pthread_mutex_unlock(&m->lock);
	return ret == 0;
}

static void init_vcpus(struct machine *m)
{
	for (unsigned i = 0; i < m->cpus; i++)
		m->vcpu[i] = (struct vcpu){.index = i,
		        .memory_bus = &m->memory_bus,
		        .port_bus = &m->port_bus,
		        .ended = vcpu_ended,
		        .prepare = i == 0 ? prepare_kvm : NULL,
		        .context = m,
		        .trace = m->trace};
}

/* --- all of it --- */

static int check_options(const struct machine_options *o, struct err *err)
{
	if (o->cpus < 1 || o->cpus > BOOT_CPUS_MAX)
		return err_set(err, EINVAL, "%u vCPUs: choose 1 to %u", o->cpus, BOOT_CPUS_MAX);
	if (o->memory_mib < MACHINE_MEMORY_MIN_MIB || o->memory_mib > 1u << 20)
		return err_set(err, EINVAL, "%" PRIu64 " MiB of memory: choose %u MiB to 1 TiB", o->memory_mib,
		        MACHINE_MEMORY_MIN_MIB);
	return 0;
}

static int set_breakpoints(struct machine *m, struct trace *trace, struct err *err)
{
	for (unsigned i = 0; trace && i < trace->breakpoint_count; i++) {
		uint8_t *host = boot_symbol(&m->gmem, trace->breakpoint[i].addr);
		if (!host)
			return err_set(
			        err, EINVAL, "the breakpoint %s is not inside the kernel", trace->breakpoint[i].name);
		trace_set_breakpoint(trace, i, host, BOOT_BREAKPOINT);
	}
	return 0;
}

int machine_create(struct machine **out, const struct machine_options *o, struct err *err)
{
	int ret = check_options(o, err);
	if (ret < 0)
		return ret;
	struct machine *m = calloc(1, sizeof(*m));
	if (!m)
		return err_set(err, ENOMEM, "out of memory for the machine");
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->changed, NULL);
	m->cpus = o->cpus;
	m->ended = o->ended;
	m->context = o->context;
	m->trace = o->trace;
	init_vcpus(m);
	ret = kvm_open(&m->kvm, err);
	if (ret == 0)
		ret = vcpu_start(&m->vcpu[0], err);
	if (ret == 0)
		ret = gmem_create(&m->gmem, o->memory_mib << 20, BOOT_HOLE_START, BOOT_HOLE_END, err);
	trace_mark(o->trace, "memory_mapped", "");
	if (ret == 0) {
		advance(m, MEMORY_MAPPED);
		if (!__atomic_load_n(&m->kvm_begun, __ATOMIC_RELAXED))
			vcpu_send_away(&m->vcpu[0]);
		ret = kvm_arch_read_cpuid(m->kvm.dev_fd, &m->cpuid, err);
	}
	if (ret < 0) {
		machine_destroy(m);
		return ret;
	}
	advance(m, CPUID_READ);
	*out = m;
	return 0;
}

int machine_build(struct machine *m, const struct machine_options *o, struct err *err)
{
	m->platform.event = platform_event;
	m->platform.event_context = m;
	m->platform.trace = m->trace;
	m->env = (struct virtio_env){.gmem = &m->gmem, .loop = o->loop, .log = o->log};
	int ret = add_devices(m, o, err);
	if (ret == 0)
		ret = add_ioapic(m, o->serial, err);
	trace_mark(m->trace, "devices_created", "");
	if (ret == 0)
		ret = load_guest(m, o, err);
	trace_mark(m->trace, "kernel_loaded", "");
	if (ret == 0)
		ret = set_breakpoints(m, m->trace, err);
	if (ret == 0)
		ret = platform_init(&m->platform, &m->port_bus, o->serial, o->console, o->context, err);
	return ret;
}

void machine_start(struct machine *m)
{
	advance(m, BUILT);
}

int machine_serve(struct machine *m, struct err *err)
{
	int ret = m->vsock ? vsock_listen(m->vsock, err) : 0;
	await_kvm(m);
	if (m->kvm_err.errnum && ret == 0)
		ret = err_set(err, m->kvm_err.errnum, "%s", m->kvm_err.text);
	for (unsigned i = 1; i < m->cpus && ret == 0; i++)
		ret = vcpu_start(&m->vcpu[i], err);
	return ret;
}

void machine_destroy(struct machine *m)
{
	if (!m)
		return;
	if (m->vcpu[0].started) {
		advance(m, GIVEN_UP);
		await_kvm(m);
	}
	/* A vCPU may wait for the loop, which perhaps never ran. */
	if (m->env.loop)
		loop_end(m->env.loop);
	/* First all are told, then each is waited for: they may wait for one another. */
	for (unsigned i = 0; i < m->cpus; i++)
		vcpu_stop(&m->vcpu[i]);
	for (unsigned i = 0; i < m->cpus; i++)
		vcpu_destroy(&m->vcpu[i]);
	kvm_destroy(&m->kvm);
	ioapic_destroy(&m->ioapic);
	for (unsigned i = 0; i < m->devices; i++) {
		virtio_mmio_destroy(&m->transport[i]);
		virtio_destroy(m->device[i]);
	}
	gmem_destroy(&m->gmem);
	free(m->cpuid);
	pthread_cond_destroy(&m->changed);
	pthread_mutex_destroy(&m->lock);
	free(m);
}
