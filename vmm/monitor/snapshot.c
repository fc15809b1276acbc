/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/snapshot.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "virtio/state.h"
#include "vmm/monitor/file.h"
#include "vmm/shared/zero.h"

#define STATE_MAGIC 0x53505357u /* "WSPS" */
#define STATE_VERSION 1u

/* Zero pages between two pages with contents that are written all the same: fewer extents, and fewer mappings later. */
#define GAP_MAX (16 * SNAPSHOT_PAGE)

struct state_head {
	uint32_t magic;
	uint32_t version;
	uint32_t cpus;
	uint32_t devices;
	uint32_t vm_size; /* bytes, as are the others */
	uint32_t vcpu_size;
	uint32_t device_size;
	uint32_t more_size; /* of what devices have beyond that, behind all the rest */
	uint64_t memory;
};

static uint64_t memory_of(const struct gmem *gmem)
{
	uint64_t bytes = 0;
	for (unsigned i = 0; i < gmem->count; i++)
		bytes += gmem->region[i].size;
	return bytes;
}

static struct state_head head_of(const struct snapshot_parts *p)
{
	return (struct state_head){.magic = STATE_MAGIC,
	        .version = STATE_VERSION,
	        .cpus = p->cpus,
	        .devices = p->devices,
	        .vm_size = (uint32_t)arch_vm_state_size(),
	        .vcpu_size = (uint32_t)arch_vcpu_state_size(),
	        .device_size = (uint32_t)sizeof(struct virtio_state),
	        .memory = memory_of(p->gmem)};
}

static size_t size_of(const struct state_head *head)
{
	return sizeof(*head) + head->vm_size + (size_t)head->cpus * head->vcpu_size +
	       (size_t)head->devices * head->device_size + head->more_size;
}

/* Before what a device has more: its size, in bytes. The next one's begins at a multiple of 8. */
struct more_head {
	uint64_t size;
};

static size_t padded(size_t size)
{
	return (size + 7) / 8 * 8;
}

/* Where the parts are in the state: VM, vCPUs, devices. All sizes are multiples of 8. */
static uint8_t *vm_at(void *state)
{
	return (uint8_t *)state + sizeof(struct state_head);
}

static uint8_t *vcpu_at(void *state, unsigned index)
{
	return vm_at(state) + arch_vm_state_size() + index * arch_vcpu_state_size();
}

static struct virtio_state *device_at(void *state, unsigned cpus, unsigned index)
{
	return (struct virtio_state *)(void *)vcpu_at(state, cpus) + index;
}

/* --- saving --- */

/* Appends what the device has more, if anything, to the state of `size` bytes. */
static int append_more(struct virtio_dev *dev, void **state, size_t *size, struct err *err)
{
	void *data;
	struct more_head more = {0};
	size_t bytes;
	int ret = virtio_save_more(dev, &data, &bytes, err);
	if (ret < 0 || !virtio_has_more(dev))
		return ret;
	more.size = bytes;
	size_t all = *size + sizeof(more) + padded(bytes);
	uint8_t *grown = all <= SNAPSHOT_STATE_MAX ? realloc(*state, all) : NULL;
	if (grown) {
		uint8_t *to = grown + *size;
		*state = grown;
		*size = all;
		memset(to, 0, sizeof(more) + padded(bytes));
		memcpy(to, &more, sizeof(more));
		memcpy(to + sizeof(more), data, bytes);
	}
	free(data);
	return grown ? 0 : err_set(err, ENOMEM, "no room for the state of %s", dev->type->name);
}

static int save_more(
        const struct snapshot_parts *p, struct state_head *head, void **state, size_t *size, struct err *err)
{
	size_t before = *size;
	int ret = 0;
	for (unsigned i = 0; i < p->devices && ret == 0; i++)
		ret = append_more(p->transport[i].dev, state, size, err);
	head->more_size = (uint32_t)(*size - before);
	memcpy(*state, head, sizeof(*head));
	return ret;
}

int snapshot_save(const struct snapshot_parts *p, struct snapshot_origin *origin, struct err *err)
{
	struct state_head head = head_of(p);
	size_t size = size_of(&head);
	void *state = calloc(1, size);
	if (!state)
		return err_set(err, ENOMEM, "out of memory for the machine's state");
	memcpy(state, &head, sizeof(head));
	/* The devices first: what they complete now may interrupt a vCPU. */
	for (unsigned i = 0; i < p->devices; i++)
		virtio_save(&p->transport[i], device_at(state, p->cpus, i));
	int ret = arch_save_vm(p->arch, p->kvm, vm_at(state), err);
	for (unsigned i = 0; i < p->cpus && ret == 0; i++)
		ret = arch_save_vcpu(p->arch, p->kvm, p->vcpu[i].fd, i, vcpu_at(state, i), err);
	if (ret == 0)
		ret = save_more(p, &head, &state, &size, err);
	if (ret < 0) {
		free(state);
		return ret;
	}
	*origin = (struct snapshot_origin){.state = state, .state_size = size, .gmem = *p->gmem, .source = p->arch};
	return 0;
}

struct extents {
	struct snapshot_extent *list;
	uint64_t count, room, bytes;
	uint64_t gap; /* the greatest that is bridged */
};

/* `start` is that of the page's region: no extent reaches from one into the next. */
static int add_page(struct extents *e, uint64_t start, uint64_t addr)
{
	struct snapshot_extent *last = e->count > 0 ? &e->list[e->count - 1] : NULL;
	uint64_t end = last ? last->start + last->size : 0;
	if (last && end > start && addr - end <= e->gap) {
		last->size += addr - end + SNAPSHOT_PAGE;
		e->bytes += addr - end + SNAPSHOT_PAGE;
		return 0;
	}
	if (e->count == e->room) {
		uint64_t room = e->room ? e->room * 2 : 256;
		struct snapshot_extent *list = realloc(e->list, room * sizeof(*list));
		if (!list)
			return -ENOMEM;
		e->list = list;
		e->room = room;
	}
	e->list[e->count++] = (struct snapshot_extent){.start = addr, .size = SNAPSHOT_PAGE};
	e->bytes += SNAPSHOT_PAGE;
	return 0;
}

static int list_region(struct extents *e, const struct gmem_region *r)
{
	int ret = 0;
	/* Too many are known to be too many before all are there. */
	for (uint64_t at = 0; at < r->size && ret == 0 && e->count <= SNAPSHOT_EXTENTS_MAX; at += SNAPSHOT_PAGE) {
		if (!is_zero(r->host + at, SNAPSHOT_PAGE))
			ret = add_page(e, r->start, r->start + at);
	}
	return ret;
}

/* If there are too many extents, with larger gaps between them. */
static int list_extents(struct extents *e, const struct gmem *gmem)
{
	int ret;
	uint64_t gap = GAP_MAX;
	do {
		e->count = e->bytes = 0;
		e->gap = gap;
		ret = 0;
		for (unsigned i = 0; i < gmem->count && ret == 0; i++)
			ret = list_region(e, &gmem->region[i]);
		gap *= 4;
	} while (ret == 0 && e->count > SNAPSHOT_EXTENTS_MAX);
	return ret;
}

static int write_all(int fd, const void *from, uint64_t size, uint64_t offset)
{
	const uint8_t *at = from;
	while (size > 0) {
		ssize_t n = pwrite(fd, at, size < (1u << 30) ? size : 1u << 30, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += n;
		offset += (uint64_t)n;
		size -= (uint64_t)n;
	}
	return 0;
}

static uint64_t round_up(uint64_t value)
{
	return (value + SNAPSHOT_PAGE - 1) / SNAPSHOT_PAGE * SNAPSHOT_PAGE;
}

int snapshot_write(int fd, const struct snapshot_origin *origin, struct snapshot_layout *layout, struct err *err)
{
	struct extents e = {0};
	int ret = list_extents(&e, &origin->gmem);
	*layout = (struct snapshot_layout){.state_size = origin->state_size,
	        .extents_offset = SNAPSHOT_HEAD_SIZE + round_up(origin->state_size),
	        .extent_count = e.count,
	        .data_size = e.bytes};
	layout->data_offset = layout->extents_offset + round_up(e.count * sizeof(*e.list));
	uint64_t offset = layout->data_offset;
	if (ret == 0)
		ret = write_all(fd, origin->state, origin->state_size, SNAPSHOT_HEAD_SIZE);
	if (ret == 0)
		ret = write_all(fd, e.list, e.count * sizeof(*e.list), layout->extents_offset);
	for (uint64_t i = 0; i < e.count && ret == 0; i++) {
		ret = write_all(
		        fd, gmem_ptr(&origin->gmem, gpa(e.list[i].start), e.list[i].size), e.list[i].size, offset);
		offset += e.list[i].size;
	}
	free(e.list);
	return ret < 0 ? err_set(err, -ret, "cannot write the snapshot: %s", strerror(-ret)) : 0;
}

/* --- restoring --- */

/* NULL, or why the guest's memory does not get this extent. */
static const char *take_extent(
        const struct snapshot_extent *e, int fd, uint64_t offset, bool prefetch, const struct gmem *gmem)
{
	int ret;
	if (prefetch) {
		void *to = gmem_ptr(gmem, gpa(e->start), e->size);
		ret = to ? file_read(fd, to, e->size, offset) : -EFAULT;
	} else {
		ret = gmem_map_file(gmem, gpa(e->start), e->size, fd, offset);
	}
	switch (ret) {
	case 0: return NULL;
	case -EFAULT: return "an extent outside the guest's memory";
	case -ENOMEM: return "too many mappings, or too little memory";
	default: return strerror(-ret);
	}
}

static int take_memory(
        int fd, const struct snapshot_layout *layout, bool prefetch, const struct gmem *gmem, struct err *err)
{
	uint64_t size = layout->extent_count * sizeof(struct snapshot_extent), offset = layout->data_offset;
	struct snapshot_extent *list = malloc(size ? size : 1);
	const struct gmem_region *last = &gmem->region[gmem->count - 1];
	if (!list)
		return err_set(err, ENOMEM, "out of memory for the snapshot's extents");
	int ret = file_read(fd, list, size, layout->extents_offset);
	const char *wrong = ret < 0 ? strerror(-ret)
	                            : snapshot_check_extents(
	                                      list, layout->extent_count, layout->data_size, last->start + last->size);
	for (uint64_t i = 0; i < layout->extent_count && !wrong; i++) {
		wrong = take_extent(&list[i], fd, offset, prefetch, gmem);
		offset += list[i].size;
	}
	free(list);
	return wrong ? err_set(err, EINVAL, "the snapshot's memory cannot be used: %s", wrong) : 0;
}

int snapshot_read(int fd, const struct snapshot_layout *layout, uint64_t memory, unsigned folders, bool prefetch,
        struct snapshot_origin *origin, struct err *err)
{
	struct stat status;
	*origin = (struct snapshot_origin){0};
	if (fstat(fd, &status) < 0)
		return err_set(err, errno, "cannot read the snapshot: %s", strerror(errno));
	const char *wrong = snapshot_check_layout(layout, (uint64_t)status.st_size);
	if (!wrong && layout->state_size > SNAPSHOT_DEVICES_MAX + folders * SNAPSHOT_FOLDER_MAX)
		wrong = "the machine's state is larger than its folders explain";
	if (wrong)
		return err_set(err, EINVAL, "the snapshot is damaged: %s", wrong);
	origin->state = malloc(layout->state_size);
	if (!origin->state)
		return err_set(err, ENOMEM, "out of memory for the machine's state");
	origin->state_size = layout->state_size;
	int ret = file_read(fd, origin->state, layout->state_size, SNAPSHOT_HEAD_SIZE);
	if (ret < 0)
		err_set(err, -ret, "cannot read the snapshot: %s", strerror(-ret));
	if (ret == 0)
		ret = arch_create_memory(&origin->gmem, memory, err);
	if (ret == 0)
		ret = take_memory(fd, layout, prefetch, &origin->gmem, err);
	if (ret < 0)
		snapshot_destroy(origin);
	return ret;
}

void snapshot_destroy(struct snapshot_origin *origin)
{
	free(origin->state);
	gmem_destroy(&origin->gmem);
	*origin = (struct snapshot_origin){0};
}

unsigned snapshot_devices(const struct snapshot_origin *origin)
{
	struct state_head head = {0};
	if (origin->state_size >= sizeof(head))
		memcpy(&head, origin->state, sizeof(head));
	return head.devices;
}

int snapshot_check(const struct snapshot_parts *p, const struct snapshot_origin *origin, struct err *err)
{
	struct state_head head, own = head_of(p);
	if (origin->state_size < sizeof(head))
		return err_set(err, EINVAL, "the snapshot is damaged: its state is too short");
	memcpy(&head, origin->state, sizeof(head));
	if (head.magic != STATE_MAGIC)
		return err_set(err, EINVAL, "the snapshot is damaged: its state has no head");
	if (head.version != STATE_VERSION || head.vm_size != own.vm_size || head.vcpu_size != own.vcpu_size ||
	        head.device_size != own.device_size)
		return err_set(err, EINVAL, "the snapshot was made by another version of wisp: make it anew");
	if (head.cpus != own.cpus || head.devices != own.devices || head.memory != own.memory)
		return err_set(err, EINVAL, "the snapshot is of another machine: %u vCPUs, %u devices, %llu MiB",
		        head.cpus, head.devices, (unsigned long long)head.memory >> 20);
	own.more_size = head.more_size;
	if (origin->state_size != size_of(&own))
		return err_set(err, EINVAL, "the snapshot is damaged: its state is of the wrong size");
	return 0;
}

/* `at` is where the device's part begins. */
static int restore_more(struct virtio_dev *dev, const struct snapshot_origin *origin, size_t *at, struct err *err)
{
	const uint8_t *state = origin->state;
	struct more_head more;
	size_t left = origin->state_size - *at;
	if (!virtio_has_more(dev))
		return 0;
	if (left < sizeof(more))
		return err_set(err, EINVAL, "the snapshot is damaged: the state of %s is missing", dev->type->name);
	memcpy(&more, state + *at, sizeof(more));
	left -= sizeof(more);
	if (more.size > left || padded(more.size) > left)
		return err_set(err, EINVAL, "the snapshot is damaged: the state of %s is too short", dev->type->name);
	const uint8_t *data = state + *at + sizeof(more);
	*at += sizeof(more) + padded(more.size);
	return virtio_restore_more(dev, data, more.size, err);
}

int snapshot_restore_devices(const struct snapshot_parts *p, const struct snapshot_origin *origin, struct err *err)
{
	size_t at = (size_t)((uint8_t *)device_at(origin->state, p->cpus, p->devices) - (uint8_t *)origin->state);
	int ret = 0;
	for (unsigned i = 0; i < p->devices && ret == 0; i++)
		ret = virtio_restore(&p->transport[i], device_at(origin->state, p->cpus, i), err);
	for (unsigned i = 0; i < p->devices && ret == 0; i++)
		ret = restore_more(p->transport[i].dev, origin, &at, err);
	if (ret == 0 && at != origin->state_size)
		ret = err_set(err, EINVAL, "the snapshot is damaged: its state is of the wrong size");
	return ret;
}

int snapshot_restore_vm(const struct snapshot_parts *p, const struct snapshot_origin *origin, struct err *err)
{
	int ret = arch_restore_vm(p->arch, p->kvm, vm_at(origin->state), err);
	for (unsigned i = 0; i < p->cpus && ret == 0; i++)
		ret = arch_restore_vcpu(p->arch, p->vcpu[i].fd, i, vcpu_at(origin->state, i), err);
	return ret;
}
