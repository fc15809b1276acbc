/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/kvm_stats.h"

#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

void kvm_stats_open(struct kvm_stats *stats, int vcpu_fd)
{
	int fd = ioctl(vcpu_fd, KVM_GET_STATS_FD, NULL);
	*stats = (struct kvm_stats){.fd = fd > 0 ? fd : 0};
}

/* Each counter's place is looked for once: a search at every reading would cost more than the reading. */
void kvm_stats_find(struct kvm_stats *stats, const char *const *names, unsigned count)
{
	struct kvm_stats_header header;
	char all[16384]; /* KVM has some fifty descriptors: one read */
	stats->count = count < KVM_STATS_MAX ? count : KVM_STATS_MAX;
	for (unsigned c = 0; c < stats->count; c++)
		stats->offset[c] = -1;
	if (stats->fd <= 0 || pread(stats->fd, &header, sizeof(header), 0) != sizeof(header))
		return;
	stats->from = header.data_offset;
	size_t step = sizeof(struct kvm_stats_desc) + header.name_size;
	ssize_t size = pread(stats->fd, all, sizeof(all), header.desc_offset);
	for (size_t i = 0; i < header.num_desc && (ssize_t)((i + 1) * step) <= size; i++) {
		struct kvm_stats_desc desc;
		const char *name = all + i * step + sizeof(desc);
		memcpy(&desc, all + i * step, sizeof(desc));
		for (unsigned c = 0; c < stats->count; c++) {
			if (strncmp(name, names[c], header.name_size) == 0)
				stats->offset[c] = (off_t)desc.offset;
		}
	}
}

void kvm_stats_read(const struct kvm_stats *stats, uint64_t value[KVM_STATS_MAX], bool known[KVM_STATS_MAX])
{
	char values[4096]; /* KVM has some KiB of them: one read */
	ssize_t length = stats->fd > 0 ? pread(stats->fd, values, sizeof(values), stats->from) : 0;
	for (unsigned c = 0; c < stats->count; c++) {
		off_t end = stats->offset[c] + (off_t)sizeof(value[c]);
		known[c] = stats->offset[c] >= 0 && end <= length;
		value[c] = 0;
		if (known[c])
			memcpy(&value[c], values + stats->offset[c], sizeof(value[c]));
	}
}

void kvm_stats_close(struct kvm_stats *stats)
{
	if (stats->fd > 0)
		close(stats->fd);
	*stats = (struct kvm_stats){0};
}
