/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/shared/kvm_missing.h"

static int open_device(struct err *err)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	int error = errno;
	if (error == ENOENT) {
		struct kvm_missing found = kvm_missing_find();
		return err_set(err, error, "/dev/kvm does not exist: %s", kvm_missing_advice(&found));
	}
	if (error == EACCES || error == EPERM)
		return err_set(err, error, "no permission to open /dev/kvm: %s", kvm_denied_advice(error));
	return err_set(err, error, "cannot open /dev/kvm: %s", strerror(error));
}

static int check_device(struct kvm *kvm, struct err *err)
{
	int version = ioctl(kvm->dev_fd, KVM_GET_API_VERSION, 0);
	if (version < 0)
		return err_set(err, errno, "/dev/kvm does not tell its version: %s", strerror(errno));
	if (version != KVM_API_VERSION)
		return err_set(
		        err, ENOTTY, "/dev/kvm speaks version %d of the KVM API, not %d", version, KVM_API_VERSION);
	int size = ioctl(kvm->dev_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (size < 0)
		return err_set(err, errno, "/dev/kvm does not tell the size of its vCPU area: %s", strerror(errno));
	if (size < (int)sizeof(struct kvm_run))
		return err_set(err, EIO, "/dev/kvm states no usable size for its vCPU area");
	kvm->run_size = (size_t)size;
	return 0;
}

int kvm_open(struct kvm *kvm, struct err *err)
{
	*kvm = (struct kvm){.dev_fd = -1, .vm_fd = -1};
	kvm->dev_fd = open_device(err);
	if (kvm->dev_fd < 0)
		return kvm->dev_fd;
	int ret = check_device(kvm, err);
	if (ret < 0)
		kvm_destroy(kvm);
	return ret;
}

int kvm_create_vm(struct kvm *kvm, struct err *err)
{
	do
		kvm->vm_fd = ioctl(kvm->dev_fd, KVM_CREATE_VM, 0);
	while (kvm->vm_fd < 0 && errno == EINTR);
	if (kvm->vm_fd < 0)
		return err_set(err, errno, "KVM cannot create a virtual machine: %s", strerror(errno));
	return 0;
}

int kvm_set_memory(struct kvm *kvm, const struct gmem *gmem, struct err *err)
{
	for (unsigned i = 0; i < gmem->count; i++) {
		struct kvm_userspace_memory_region slot = {
		        .slot = i,
		        .guest_phys_addr = gmem->region[i].start,
		        .memory_size = gmem->region[i].size,
		        .userspace_addr = (uintptr_t)gmem->region[i].host,
		};
		if (ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
			return err_set(err, errno, "KVM refused %llu MiB of guest memory: %s",
			        (unsigned long long)slot.memory_size >> 20, strerror(errno));
	}
	return 0;
}

void kvm_destroy(struct kvm *kvm)
{
	/* 0 is a zeroed object's, never KVM's: the helper keeps the standard descriptors open. */
	if (kvm->vm_fd > 0)
		close(kvm->vm_fd);
	if (kvm->dev_fd > 0)
		close(kvm->dev_fd);
	*kvm = (struct kvm){.dev_fd = -1, .vm_fd = -1};
}

int kvm_bind_irq(struct kvm *kvm, int event_fd, uint32_t gsi)
{
	struct kvm_irqfd irqfd = {.fd = (uint32_t)event_fd, .gsi = gsi};
	return ioctl(kvm->vm_fd, KVM_IRQFD, &irqfd) < 0 ? -errno : 0;
}

int kvm_bind_doorbell(struct kvm *kvm, int event_fd, gpa_t addr, uint32_t value)
{
	struct kvm_ioeventfd doorbell = {
	        .datamatch = value,
	        .addr = addr.addr,
	        .len = 4,
	        .fd = event_fd,
	        .flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
	};
	return ioctl(kvm->vm_fd, KVM_IOEVENTFD, &doorbell) < 0 ? -errno : 0;
}
