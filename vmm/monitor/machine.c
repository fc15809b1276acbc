/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/machine.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "virtio/balloon.h"
#include "virtio/blk.h"
#include "virtio/console.h"
#include "virtio/limit.h"
#include "virtio/mmio.h"
#include "virtio/state.h"
#include "virtio/vsock.h"
#include "vmm/monitor/arch.h"
#include "vmm/monitor/bus.h"
#include "vmm/monitor/devices.h"
#include "vmm/monitor/gmem.h"
#include "vmm/monitor/init_args.h"
#include "vmm/monitor/jail.h"
#include "vmm/monitor/kvm.h"
#include "vmm/monitor/tally.h"
#include "vmm/monitor/vcpu.h"
#include "vmm/shared/proto.h"

#define GUEST_CID 3u
#define LOOP_ENTRIES 256u
#define DEVICES_MAX (DESCRIPTION_DISKS_MAX + 4 + DESCRIPTION_FOLDERS_MAX)

_Static_assert(VSOCK_FORWARD_PORTS == PROTO_PORT_FORWARD, "what the agent takes for a forwarded connection");
_Static_assert(DEVICES_MAX <= ARCH_DEVICES_MAX, "an interrupt for every device");

/*
 * What every guest kernel is told. panic=-1: reset at once. loglevel=3 after quiet keeps the notice of a mitigation,
 * which some processors cause, off a console that costs exits.
 */
#define KERNEL_ARGS "panic=-1 quiet loglevel=3"

/* How far the loop's thread is. The first vCPU's thread waits for it where it needs something of the other. */
enum progress {
	BEGUN,
	MEMORY_MAPPED,
	HOST_READ,
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
	struct arch *arch;
	struct snapshot_origin *origin; /* NULL: the machine boots */
	struct trace *trace;
	bool jailed;
	enum wisp_engine engine; /* of the loop */
	struct bus memory_bus;
	unsigned cpus;
	struct vcpu vcpu[WISP_CPUS_MAX];
	unsigned devices;
	unsigned disks; /* the first of them */
	struct virtio_dev *device[DEVICES_MAX];
	struct virtio_dev *vsock; /* one of them, or NULL */
	struct virtio_mmio transport[DEVICES_MAX];
	struct virtio_env env;
	int (*begun)(void *context, struct err *err);
	void (*ended)(void *context, enum wisp_end end, const char *text);
	void *context;
	bool end_told; /* atomic */
};

/* --- ends --- */

static void end(struct machine *m, enum wisp_end why, const char *text)
{
	if (!__atomic_exchange_n(&m->end_told, true, __ATOMIC_ACQ_REL))
		m->ended(m->context, why, text);
}

static void on_vcpu_end(void *context, enum vcpu_end why, const char *text)
{
	end(context, why == VCPU_SHUTDOWN ? WISP_END_TRIPLE_FAULT : WISP_END_INTERNAL, text);
}

static void on_vcpu_paused(void *context)
{
	struct machine *m = context;
	loop_wake(m->env.loop);
}

static void on_arch_event(void *context, enum arch_event event)
{
	switch (event) {
	case ARCH_POWEROFF: end(context, WISP_END_POWEROFF, "the guest powered off"); break;
	case ARCH_REBOOT: end(context, WISP_END_REBOOT, "the guest asked for a reboot"); break;
	case ARCH_PANIC: end(context, WISP_END_PANIC, "the guest's kernel panicked"); break;
	case ARCH_BOOT_FAILED: end(context, WISP_END_BOOT_FAILED, "the agent could not set up the guest"); break;
	}
}

static void on_arch_failure(void *context, const char *text)
{
	end(context, WISP_END_INTERNAL, text);
}

static void on_lost_interrupt(void *context, unsigned device)
{
	struct machine *m = context;
	virtio_interrupt_again(m->device[device]);
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

/* --- devices: their order gives addresses, interrupts and the disks' letters --- */

static void transport_access(void *context, uint64_t offset, void *data, unsigned len, bool is_write)
{
	if (is_write)
		virtio_mmio_write(context, offset, data, len);
	else
		virtio_mmio_read(context, offset, data, len);
}

static int add_device(struct machine *m, struct virtio_dev *dev, struct err *err)
{
	unsigned i = m->devices++;
	m->device[i] = dev;
	virtio_mmio_init(&m->transport[i], dev);
	int ret = bus_add(
	        &m->memory_bus, arch_device_addr(i).addr, VIRTIO_MMIO_WINDOW, transport_access, &m->transport[i]);
	return ret < 0 ? err_set(err, -ret, "too many devices") : 0;
}

static int add_limited(struct machine *m, struct virtio_dev *dev, const struct wisp_rate *rate, struct err *err)
{
	virtio_set_rate(dev, rate->bytes, rate->operations);
	return add_device(m, dev, err);
}

static int add_console(struct machine *m, const struct machine_options *o, struct err *err)
{
	struct console_options options = {.output = o->console, .context = o->context};
	struct virtio_dev *dev;
	int ret = console_create(&dev, &m->env, &options, err);
	return ret < 0 ? ret : add_limited(m, dev, &o->description->console_rate, err);
}

static int add_disk(struct machine *m, const struct description_disk *disk, bool image, int *fd, struct err *err)
{
	struct virtio_dev *dev;
	int ret = devices_create_disk(&dev, &m->env, disk, image, m->cpus, fd, err);
	if (ret < 0)
		return ret;
	m->disks++;
	return add_limited(m, dev, &disk->rate, err);
}

static int add_vsock(struct machine *m, const struct machine_options *o, struct err *err)
{
	struct vsock_options options = {.cid = GUEST_CID,
	        .socket_path = o->vsock_path,
	        .forward_port = PROTO_PORT_AGENT,
	        .files = o->jail ? o->jail->files : 0};
	int ret = vsock_create(&m->vsock, &m->env, &options, err);
	return ret < 0 ? ret : add_limited(m, m->vsock, &o->description->vsock_rate, err);
}

static int add_folder(struct machine *m, const struct machine_options *o, unsigned i, struct err *err)
{
	struct virtio_dev *dev;
	int ret = devices_create_folder(&dev, &m->env, i, &o->description->folder[i], o->fds->folder[i], err);
	return ret < 0 ? ret : add_device(m, dev, err);
}

static int add_net(struct machine *m, const struct description_net *net, int *fds, struct err *err)
{
	struct virtio_dev *dev;
	int ret = devices_create_net(&dev, &m->env, net, fds, err);
	return ret < 0 ? ret : add_limited(m, dev, &net->rate, err);
}

static int add_balloon(struct machine *m, struct err *err)
{
	struct virtio_dev *dev;
	int ret = balloon_create(&dev, &m->env, err);
	return ret < 0 ? ret : add_device(m, dev, err);
}

static int add_devices(struct machine *m, const struct machine_options *o, struct err *err)
{
	const struct description *d = o->description;
	int ret = 0;
	for (uint32_t i = 0; i < d->disk_count && ret == 0; i++)
		ret = add_disk(m, &d->disk[i], i == 0 && d->flags & DESCRIPTION_IMAGE, &o->fds->disk[i], err);
	if (ret == 0 && o->vsock_path)
		ret = add_vsock(m, o, err);
	if (ret == 0)
		ret = add_console(m, o, err);
	for (uint32_t i = 0; i < d->folder_count && ret == 0; i++)
		ret = add_folder(m, o, i, err);
	if (ret == 0 && d->net.port != DESCRIPTION_NET_NONE)
		ret = add_net(m, &d->net, o->fds->net, err);
	/* The last, so that a saved machine with one more device than this one is one with a balloon. */
	bool balloon = m->origin ? snapshot_devices(m->origin) > m->devices : d->flags & DESCRIPTION_RECLAIM;
	return ret == 0 && balloon ? add_balloon(m, err) : ret;
}

/* Interrupts leave, and kicks arrive, as eventfds inside the host's kernel. */
static int bind_device(struct machine *m, unsigned index, struct err *err)
{
	struct virtio_dev *dev = m->device[index];
	gpa_t kick = gpa(arch_device_addr(index).addr + VIRTIO_MMIO_KICK_OFFSET);
	int ret = kvm_bind_irq(&m->kvm, dev->irq_fd, arch_device_gsi(index));
	for (unsigned q = 0; q < dev->queue_count && ret == 0; q++)
		ret = kvm_bind_doorbell(&m->kvm, dev->queue[q].kick_fd, kick, q);
	return ret < 0 ? err_set(err, -ret, "KVM refused the eventfds of %s: %s", dev->type->name, strerror(-ret)) : 0;
}

/* --- the guest's software --- */

static int load_guest(struct machine *m, const struct machine_options *o, struct err *err)
{
	const struct description *d = o->description;
	char kernel_args[sizeof(KERNEL_ARGS) + DESCRIPTION_KERNEL_ARGS_MAX + 32];
	char words[INIT_ARGS_MAX];
	snprintf(kernel_args, sizeof(kernel_args), "%s%s%s%s", KERNEL_ARGS,
	        d->flags & DESCRIPTION_CONSOLE ? " ignore_loglevel" : "", *d->kernel_args ? " " : "", d->kernel_args);
	init_args_make(d, words);
	struct arch_boot boot = {.kernel_fd = o->fds->kernel,
	        .initramfs_fd = o->fds->initramfs,
	        .kernel_name = d->kernel_name,
	        .initramfs_name = d->initramfs_name,
	        .kernel_args = kernel_args,
	        .init_args = words,
	        .devices = m->devices,
	        .copy_kernel = d->flags & DESCRIPTION_PRIVATE};
	return arch_load(m->arch, &m->gmem, &boot, err);
}

static int set_breakpoints(struct machine *m, const struct description *d, struct err *err)
{
	for (uint32_t i = 0; m->trace && i < d->breakpoint_count; i++) {
		const struct description_breakpoint *b = &d->breakpoint[i];
		uint8_t *host = arch_symbol(&m->gmem, b->addr);
		if (!host)
			return err_set(err, EINVAL, "the breakpoint %s is not inside the kernel", b->name);
		trace_set_breakpoint(m->trace, b->name, b->addr, host, arch_breakpoint);
	}
	return 0;
}

/* --- snapshots --- */

static struct snapshot_parts parts_of(struct machine *m)
{
	return (struct snapshot_parts){.gmem = &m->gmem,
	        .kvm = &m->kvm,
	        .arch = m->arch,
	        .vcpu = m->vcpu,
	        .cpus = m->cpus,
	        .transport = m->transport,
	        .devices = m->devices};
}

static int restore_devices(struct machine *m, struct err *err)
{
	struct snapshot_parts parts = parts_of(m);
	arch_adopt(m->arch, &m->gmem, m->devices);
	int ret = snapshot_check(&parts, m->origin, err);
	return ret < 0 ? ret : snapshot_restore_devices(&parts, m->origin, err);
}

static int restore_vm(struct machine *m, struct err *err)
{
	struct snapshot_parts parts = parts_of(m);
	return snapshot_restore_vm(&parts, m->origin, err);
}

static bool is_paused(const struct machine *m)
{
	bool paused = true;
	for (unsigned i = 0; i < m->cpus; i++)
		paused &= vcpu_is_paused(&m->vcpu[i]);
	return paused;
}

static bool is_busy(const struct machine *m)
{
	bool busy = false;
	for (unsigned i = 0; i < m->devices; i++)
		busy |= virtio_busy(m->device[i]);
	return busy;
}

int machine_pause(struct machine *m, struct err *err)
{
	int ret = 0;
	for (unsigned i = 0; i < m->cpus; i++)
		vcpu_pause(&m->vcpu[i]);
	while (ret >= 0 && (!is_paused(m) || is_busy(m)))
		ret = loop_step(m->env.loop, -1);
	if (ret < 0)
		return err_set(err, -ret, "the event loop failed: %s", strerror(-ret));
	if (__atomic_load_n(&m->end_told, __ATOMIC_ACQUIRE))
		return err_set(err, ESHUTDOWN, "the machine has ended");
	return 0;
}

void machine_resume(struct machine *m)
{
	for (unsigned i = 0; i < m->cpus; i++)
		vcpu_resume(&m->vcpu[i]);
}

int machine_save(struct machine *m, struct snapshot_origin *origin, struct err *err)
{
	struct snapshot_parts parts = parts_of(m);
	return snapshot_save(&parts, origin, err);
}

/* --- KVM's half --- */

static int create_vm(struct machine *m, struct err *err)
{
	int ret = kvm_create_vm(&m->kvm, err);
	if (ret == 0)
		ret = await(m, MEMORY_MAPPED);
	if (ret == 0)
		ret = kvm_set_memory(&m->kvm, &m->gmem, err);
	if (ret == 0)
		ret = arch_furnish_vm(m->arch, &m->kvm, err);
	trace_mark_uncounted(m->trace, "vm_created");
	for (unsigned i = 0; i < m->cpus && ret == 0; i++)
		ret = vcpu_create(&m->vcpu[i], &m->kvm, err);
	if (ret == 0)
		ret = arch_complete_vm(m->arch, err);
	if (ret == 0)
		ret = await(m, HOST_READ);
	for (unsigned i = 0; i < m->cpus && ret == 0; i++)
		ret = arch_set_processor(m->arch, m->vcpu[i].fd, i, err);
	for (unsigned i = 0; i < m->cpus && ret == 0; i++)
		vcpu_start_tracing(&m->vcpu[i]);
	if (ret == 0)
		ret = await(m, BUILT);
	for (unsigned i = 0; i < m->devices && ret == 0; i++)
		ret = bind_device(m, i, err);
	if (ret == 0)
		ret = m->origin ? restore_vm(m, err) : arch_set_entry(m->arch, m->vcpu[0].fd, err);
	trace_mark_uncounted(m->trace, "vcpu_ready");
	return ret;
}

/* On the first vCPU's thread, which then runs the guest: one thread less to wake. */
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

/* --- all of it --- */

static void init_vcpus(struct machine *m)
{
	for (unsigned i = 0; i < m->cpus; i++)
		m->vcpu[i] = (struct vcpu){.index = i,
		        .memory_bus = &m->memory_bus,
		        .arch = m->arch,
		        .lock = PTHREAD_MUTEX_INITIALIZER,
		        .resumed = PTHREAD_COND_INITIALIZER,
		        .ended = on_vcpu_end,
		        .paused = on_vcpu_paused,
		        .prepare = i == 0 ? prepare_kvm : NULL,
		        .context = m,
		        .trace = m->trace,
		        .jailed = m->jailed};
}

static int create_arch(struct machine *m, const struct machine_options *o, struct err *err)
{
	struct arch_options options = {.cpus = m->cpus,
	        .early_console = o->description->flags & DESCRIPTION_CONSOLE,
	        .memory_bus = &m->memory_bus,
	        .trace = m->trace,
	        .event = on_arch_event,
	        .failed = on_arch_failure,
	        .interrupt_again = on_lost_interrupt,
	        .console = o->console,
	        .context = m,
	        .console_context = o->context};
	return arch_create(&m->arch, &options, err);
}

/* The first vCPU's thread begins with KVM's half as soon as it is there. */
static int begin(struct machine *m, const struct machine_options *o, struct err *err)
{
	bool is_clone = o->origin && o->origin->source;
	int ret = create_arch(m, o, err);
	if (ret == 0 && is_clone)
		ret = arch_inherit_host(m->arch, o->origin->source, err);
	init_vcpus(m);
	if (ret == 0)
		ret = kvm_open(&m->kvm, err);
	if (ret == 0)
		ret = vcpu_start(&m->vcpu[0], err);
	if (ret == 0 && o->origin) {
		m->gmem = o->origin->gmem;
		o->origin->gmem = (struct gmem){0};
	} else if (ret == 0) {
		ret = arch_create_memory(&m->gmem, (uint64_t)o->description->memory_mib << 20, err);
	}
	trace_mark_uncounted(m->trace, "memory_mapped");
	if (ret < 0)
		return ret;
	advance(m, MEMORY_MAPPED);
	if (!__atomic_load_n(&m->kvm_begun, __ATOMIC_RELAXED))
		vcpu_send_away(&m->vcpu[0]);
	if (!is_clone)
		ret = arch_read_host(m->arch, &m->kvm, err);
	if (ret == 0)
		advance(m, HOST_READ);
	return ret;
}

static int build(struct machine *m, const struct machine_options *o, struct err *err)
{
	m->env = (struct virtio_env){.gmem = &m->gmem, .loop = o->loop, .log = o->log};
	int ret = add_devices(m, o, err);
	trace_mark_uncounted(m->trace, "devices_created");
	if (ret == 0)
		ret = m->origin ? restore_devices(m, err) : load_guest(m, o, err);
	trace_mark_uncounted(m->trace, "kernel_loaded");
	return ret < 0 ? ret : set_breakpoints(m, o->description, err);
}

int machine_create(struct machine **out, const struct machine_options *o, struct err *err)
{
	struct machine *m = calloc(1, sizeof(*m));
	*out = NULL;
	if (!m)
		return err_set(err, ENOMEM, "out of memory for the machine");
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->changed, NULL);
	m->cpus = o->description->cpus;
	m->begun = o->begun;
	m->ended = o->ended;
	m->context = o->context;
	m->trace = o->trace;
	m->jailed = o->jail && o->jail->layers & WISP_LAYER_SECCOMP;
	m->engine = o->description->engine;
	m->origin = o->origin;
	int ret = begin(m, o, err);
	if (ret == 0)
		ret = build(m, o, err);
	if (ret < 0) {
		machine_destroy(m);
		return ret;
	}
	*out = m;
	return 0;
}

/* With folders, the state may be large; and a clone has that of all its sources in its memory. */
static void drop_origin(struct machine *m)
{
	if (!m->origin)
		return;
	free(m->origin->state);
	m->origin->state = NULL;
}

int machine_run(struct machine *m, struct err *err)
{
	advance(m, BUILT);
	struct loop_options options = {
	        .entries = LOOP_ENTRIES, .engine = m->engine, .confine = m->jailed ? jail_enter_worker : NULL};
	int ret = loop_open(m->env.loop, &options, err);
	if (ret == 0 && m->vsock)
		ret = vsock_listen(m->vsock, err);
	if (ret == 0 && m->begun)
		ret = m->begun(m->context, err);
	await_kvm(m);
	if (m->kvm_err.errnum && ret == 0)
		ret = err_set(err, m->kvm_err.errnum, "%s", m->kvm_err.text);
	for (unsigned i = 0; i < m->devices && m->origin && ret == 0; i++)
		virtio_resume(m->device[i]);
	drop_origin(m);
	for (unsigned i = 1; i < m->cpus && ret == 0; i++)
		ret = vcpu_start(&m->vcpu[i], err);
	if (ret == 0 && (ret = loop_run(m->env.loop)) < 0)
		err_set(err, -ret, "the event loop failed: %s", strerror(-ret));
	return ret;
}

void machine_refresh_disks(struct machine *m)
{
	for (unsigned i = 0; m && i < m->disks; i++) {
		struct err err = {0};
		if (blk_resized(m->device[i], &err) < 0)
			log_line(m->env.log, LOG_WARN, "disk %u: %s", i, err.text);
	}
}

struct virtio_dev *machine_vsock(struct machine *m)
{
	return m->vsock;
}

void machine_count(struct machine *m, struct stats *stats)
{
	tally_vcpus(stats, m->vcpu, m->cpus);
	tally_devices(stats, m->device, m->devices);
}

const struct gmem *machine_memory(const struct machine *m)
{
	return &m->gmem;
}

void machine_describe(struct machine *m, char *to, size_t size)
{
	vcpu_describe(&m->vcpu[0], to, size);
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
	/* First stop all, then wait for each: they may wait for one another. */
	for (unsigned i = 0; i < m->cpus; i++)
		vcpu_stop(&m->vcpu[i]);
	for (unsigned i = 0; i < m->cpus; i++)
		vcpu_destroy(&m->vcpu[i]);
	kvm_destroy(&m->kvm);
	arch_destroy(m->arch);
	for (unsigned i = 0; i < m->devices; i++) {
		virtio_mmio_destroy(&m->transport[i]);
		virtio_destroy(m->device[i]);
	}
	gmem_destroy(&m->gmem);
	pthread_cond_destroy(&m->changed);
	pthread_mutex_destroy(&m->lock);
	free(m);
}
