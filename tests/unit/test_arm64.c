/* SPDX-License-Identifier: Apache-2.0 */
/* arm64's side of the machine: the kernel's Image against files that lie, the device tree, the ends of a guest, its
 * state. */
#include <endian.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/test.h"
#include "vmm/monitor/aarch64/boot.h"
#include "vmm/monitor/aarch64/state.h"
#include "vmm/monitor/arch.h"
#include "vmm/monitor/kvm_arch.h"
#include "vmm/shared/platform.h"
#include "wisp.h"

#define MIB (1ull << 20)
#define RAM (64 * MIB)

/* --- the Image --- */

struct image_file {
	uint32_t code[2];
	uint64_t text_offset, image_size, flags, reserved[3];
	uint32_t magic, pe_offset;
	uint8_t rest[8192];
};

/* A good one, which has no place in its 2 MiB of its own. */
static struct image_file good_image(void)
{
	struct image_file f = {.image_size = htole64(MIB), .flags = htole64(0xa), .magic = htole32(0x644d5241)};
	memset(f.rest, 0xab, sizeof(f.rest));
	return f;
}

static int load(const void *file, size_t size, bool copy, const struct gmem *g, struct image *image, struct err *err)
{
	int fd = memfd_create("kernel", MFD_CLOEXEC);
	CHECK(fd >= 0 && write(fd, file, size) == (ssize_t)size);
	*err = (struct err){0};
	int ret = image_load(fd, "k", BOOT_KERNEL_ADDR, copy, g, image, err);
	close(fd);
	return ret;
}

static void an_image_is_loaded_where_it_wants(void)
{
	struct gmem g;
	struct image image;
	struct err err;
	REQUIRE(gmem_create(&g, RAM, BOOT_HOLE_START, BOOT_HOLE_END, NULL) == 0);
	for (int copy = 0; copy <= 1; copy++) {
		struct image_file f = good_image();
		f.text_offset = htole64(copy ? 0x80000 : 0);
		REQUIRE(load(&f, sizeof(f), copy, &g, &image, &err) == 0);
		CHECK_EQ(image.entry, BOOT_KERNEL_ADDR + (copy ? 0x80000 : 0));
		CHECK_EQ(image.end, image.entry + MIB);
		CHECK(memcmp(gmem_ptr(&g, gpa(image.entry), sizeof(f)), &f, sizeof(f)) == 0);
	}
	gmem_destroy(&g);
}

static void lies_are_refused(void)
{
	struct gmem g;
	struct image image;
	struct err err;
	REQUIRE(gmem_create(&g, RAM, BOOT_HOLE_START, BOOT_HOLE_END, NULL) == 0);
	struct image_file f = good_image();
	CHECK_EQ(load(&f, 63, false, &g, &image, &err), -ENOEXEC);
	f.magic++;
	CHECK_EQ(load(&f, sizeof(f), false, &g, &image, &err), -ENOEXEC);
	CHECK(strstr(err.text, "not an Image") != NULL);
	f = good_image();
	f.flags |= htole64(1);
	CHECK_EQ(load(&f, sizeof(f), false, &g, &image, &err), -ENOEXEC);
	CHECK(strstr(err.text, "big-endian") != NULL);
	f = good_image();
	f.image_size = htole64(sizeof(f) - 1); /* less than the file */
	CHECK_EQ(load(&f, sizeof(f), false, &g, &image, &err), -ENOEXEC);
	f = good_image();
	f.text_offset = htole64(2 * MIB);
	CHECK_EQ(load(&f, sizeof(f), false, &g, &image, &err), -ENOEXEC);
	static const uint64_t sizes[] = {RAM - BOOT_KERNEL_ADDR + 1, UINT64_MAX, UINT64_MAX - BOOT_KERNEL_ADDR + 1};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		f = good_image();
		f.image_size = htole64(sizes[i]);
		CHECK_EQ(load(&f, sizeof(f), false, &g, &image, &err), -EFAULT);
		CHECK(strstr(err.text, "--memory") != NULL);
	}
	gmem_destroy(&g);
}

static void other_kernels_are_named(void)
{
	struct gmem g;
	struct image image;
	struct err err;
	uint8_t file[128] = {0x1f, 0x8b};
	REQUIRE(gmem_create(&g, RAM, BOOT_HOLE_START, BOOT_HOLE_END, NULL) == 0);
	CHECK_EQ(load(file, sizeof(file), false, &g, &image, &err), -ENOEXEC);
	CHECK(strstr(err.text, "compressed") != NULL);
	memcpy(file, "\177ELF", 4);
	CHECK_EQ(load(file, sizeof(file), false, &g, &image, &err), -ENOEXEC);
	CHECK(strstr(err.text, "ELF") != NULL);
	gmem_destroy(&g);
}

/* --- the device tree --- */

static uint32_t cell(const void *at)
{
	uint32_t value;
	memcpy(&value, at, sizeof(value));
	return be32toh(value);
}

/*
 * Looks for a property by the path of its node, "/chosen bootargs". Checks the whole tree on the way. NULL: there is
 * none.
 */
static const uint8_t *find(const uint8_t *tree, const char *wanted, uint32_t *size)
{
	const uint8_t *at = tree + cell(tree + 8), *end = at + cell(tree + 36), *found = NULL;
	const char *names = (const char *)tree + cell(tree + 12);
	char path[256] = "";
	unsigned depth = 0;
	while (at < end) {
		uint32_t token = cell(at);
		at += 4;
		if (token == 1) {
			size_t length = strlen((const char *)at);
			if (depth++ > 0)
				snprintf(path + strlen(path), sizeof(path) - strlen(path), "/%s", (const char *)at);
			at += (length + 4) & ~(size_t)3;
		} else if (token == 2) {
			char *slash = strrchr(path, '/');
			if (slash)
				*slash = '\0';
			depth--;
		} else if (token == 3) {
			char full[320];
			uint32_t length = cell(at);
			snprintf(full, sizeof(full), "%s %s", path, names + cell(at + 4));
			if (strcmp(full, wanted) == 0) {
				found = at + 8;
				*size = length;
			}
			at += 8 + ((length + 3) & ~3u);
		} else {
			CHECK_EQ(token, 9);
			CHECK(at == end && depth == 0);
			break;
		}
	}
	return found;
}

static bool has_text(const uint8_t *tree, const char *wanted, const char *value)
{
	uint32_t size;
	const uint8_t *found = find(tree, wanted, &size);
	return found && size == strlen(value) + 1 && memcmp(found, value, size) == 0;
}

static bool has_cells(const uint8_t *tree, const char *wanted, const uint32_t *cells, size_t count)
{
	uint32_t size;
	const uint8_t *found = find(tree, wanted, &size);
	bool same = found && size == 4 * count;
	for (size_t i = 0; i < count && same; i++)
		same = cell(found + 4 * i) == cells[i];
	return same;
}

#define HAS(wanted, ...) \
	CHECK(has_cells(tree, wanted, (const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / 4))

static void the_writer_counts_what_it_writes(void)
{
	static struct fdt fdt;
	static const uint8_t big[FDT_BYTES_MAX / 4];
	fdt_init(&fdt);
	fdt_begin_node(&fdt, "");
	fdt_add_text(&fdt, "name-of-three", "abc");
	fdt_add(&fdt, "empty", NULL, 0);
	fdt_add_text(&fdt, "name-of-three", "again"); /* the name is there once */
	fdt_end_node(&fdt);
	size_t size = fdt_finish(&fdt);
	CHECK_EQ(
	        size, 40 + 16 + (8 + (12 + 4) + 12 + (12 + 8) + 4 + 4) + sizeof("name-of-three") + sizeof("empty") + 0);
	CHECK_EQ(cell(fdt.bytes), 0xd00dfeed);
	CHECK_EQ(cell(fdt.bytes + 4), (size + 3) & ~3u);
	CHECK_EQ(cell(fdt.bytes + 32), sizeof("name-of-three") + sizeof("empty"));
	CHECK(has_text(fdt.bytes, " name-of-three", "again"));
	fdt_init(&fdt);
	for (unsigned i = 0; i < 4; i++)
		fdt_add(&fdt, "x", big, sizeof(big));
	CHECK_EQ(fdt_finish(&fdt), 0);
	fdt_init(&fdt);
	for (unsigned i = 0; i < FDT_NAMES_MAX / 4 + 1; i++) {
		char name[8];
		snprintf(name, sizeof(name), "%03u", i);
		fdt_add(&fdt, name, NULL, 0);
	}
	CHECK_EQ(fdt_finish(&fdt), 0);
}

static int make_file(const void *from, size_t size)
{
	int fd = memfd_create("file", MFD_CLOEXEC);
	CHECK(fd >= 0 && write(fd, from, size) == (ssize_t)size);
	return fd;
}

/* The largest machine that there can be, with RAM on both sides of the hole. */
static void the_tree_describes_the_machine(void)
{
	struct gmem g;
	struct err err = {0};
	char cmdline[BOOT_CMDLINE_MAX];
	uint64_t entry = 0;
	uint32_t size;
	struct image_file kernel = good_image();
	int kernel_fd = make_file(&kernel, sizeof(kernel)), initramfs_fd = make_file("initramfs", 5000);
	memset(cmdline, 'x', sizeof(cmdline) - 1);
	cmdline[sizeof(cmdline) - 1] = '\0';
	struct boot_config config = {.kernel_fd = kernel_fd,
	        .initramfs_fd = initramfs_fd,
	        .kernel_name = "k",
	        .initramfs_name = "i",
	        .cmdline = cmdline,
	        .cpus = WISP_CPUS_MAX,
	        .devices = ARCH_DEVICES_MAX};
	REQUIRE(gmem_create(&g, BOOT_HOLE_START + 64 * MIB, BOOT_HOLE_START, BOOT_HOLE_END, NULL) == 0);
	CHECK_EQ(boot_load(&config, &g, &entry, &err), 0);
	CHECK_EQ(entry, BOOT_KERNEL_ADDR);
	const uint8_t *tree = gmem_ptr(&g, gpa(BOOT_FDT_ADDR), BOOT_KERNEL_ADDR - BOOT_FDT_ADDR);
	REQUIRE(tree && cell(tree) == 0xd00dfeed);
	CHECK(has_text(tree, "/chosen bootargs", cmdline));
	CHECK(find(tree, "/chosen rng-seed", &size) && size == 32);
	HAS("/chosen linux,initrd-start", 0, BOOT_HOLE_START - 8192);
	HAS("/chosen linux,initrd-end", 0, BOOT_HOLE_START - 8192 + 5000);
	HAS("/memory@0 reg", 0, 0, 0, 0xc0000000);
	HAS("/memory@100000000 reg", 1, 0, 0, 64 * MIB);
	HAS("/cpus/cpu@0 reg", 0);
	HAS("/cpus/cpu@f reg", 0xf);
	HAS("/cpus/cpu@103 reg", 0x103); /* vCPU 19 */
	CHECK(!find(tree, "/cpus/cpu@400 reg", &size));
	CHECK(has_text(tree, "/cpus/cpu@30f enable-method", "psci"));
	CHECK(has_text(tree, "/psci method", "hvc"));
	HAS("/interrupt-controller@c0000000 reg", 0, 0xc0000000, 0, 0x10000, 0, 0xc0100000, 0, WISP_CPUS_MAX * 0x20000);
	HAS("/virtio_mmio@d0000000 interrupts", 0, 0, 1);
	HAS("/virtio_mmio@d0015000 interrupts", 0, ARCH_DEVICES_MAX - 1, 1);
	HAS("/virtio_mmio@d0015000 reg", 0, 0xd0015000, 0, 0x1000);
	HAS("/timer interrupts", 1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4);
	gmem_destroy(&g);
	/* Without an initramfs, nothing names one. */
	config.initramfs_fd = -1;
	REQUIRE(gmem_create(&g, RAM, BOOT_HOLE_START, BOOT_HOLE_END, NULL) == 0);
	CHECK_EQ(boot_load(&config, &g, &entry, &err), 0);
	tree = gmem_ptr(&g, gpa(BOOT_FDT_ADDR), BOOT_KERNEL_ADDR - BOOT_FDT_ADDR);
	CHECK(tree && !find(tree, "/chosen linux,initrd-start", &size));
	gmem_destroy(&g);
	close(kernel_fd);
	close(initramfs_fd);
}

/* --- how a guest ends, and its early console --- */

static struct {
	unsigned count;
	enum arch_event last;
	char text[64];
} heard;

static void on_event(void *context, enum arch_event event)
{
	(void)context;
	heard.count++;
	heard.last = event;
}

static void on_console(void *context, const void *data, size_t len)
{
	(void)context;
	memcpy(heard.text + strlen(heard.text), data, len);
}

static void a_guest_ends_in_one_of_these_ways(void)
{
	struct bus bus = {0};
	struct arch *arch;
	struct arch_options options = {.cpus = 1, .memory_bus = &bus, .event = on_event};
	REQUIRE(arch_create(&arch, &options, NULL) == 0);
	static const struct {
		uint32_t type, ndata;
		uint64_t data;
		enum arch_event event;
	} cases[] = {
	        {KVM_SYSTEM_EVENT_SHUTDOWN, 0, 0, ARCH_POWEROFF},
	        {KVM_SYSTEM_EVENT_RESET, 0, KVM_SYSTEM_EVENT_RESET_FLAG_PSCI_RESET2, ARCH_REBOOT},
	        {KVM_SYSTEM_EVENT_RESET, 1, 0, ARCH_REBOOT},
	        {KVM_SYSTEM_EVENT_RESET, 1, KVM_SYSTEM_EVENT_RESET_FLAG_PSCI_RESET2, ARCH_PANIC},
	        {KVM_SYSTEM_EVENT_CRASH, 0, 0, ARCH_PANIC},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct kvm_run run = {.exit_reason = KVM_EXIT_SYSTEM_EVENT};
		run.system_event.type = cases[i].type;
		run.system_event.ndata = cases[i].ndata;
		run.system_event.data[0] = cases[i].data;
		heard.count = 0;
		CHECK(kvm_arch_handle_exit(arch, &run));
		CHECK_EQ(heard.count, 1);
		CHECK_EQ(heard.last, cases[i].event);
	}
	struct kvm_run other = {.exit_reason = KVM_EXIT_UNKNOWN};
	CHECK(!kvm_arch_handle_exit(arch, &other));
	static const struct {
		uint8_t value;
		unsigned count;
		enum arch_event event;
	} words[] = {
	        {PLATFORM_POWER_OFF, 1, ARCH_POWEROFF}, {PLATFORM_POWER_FAILED, 1, ARCH_BOOT_FAILED}, {0xff, 0, 0}};
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		uint8_t value = words[i].value;
		heard.count = 0;
		bus_access(&bus, PLATFORM_PAGE, &value, 1, true);
		CHECK_EQ(heard.count, words[i].count);
		CHECK(heard.count == 0 || heard.last == words[i].event);
	}
	arch_destroy(arch);
}

static void the_early_console_writes(void)
{
	struct bus bus = {0};
	struct arch *arch;
	struct arch_options options = {
	        .cpus = 1, .memory_bus = &bus, .event = on_event, .early_console = true, .console = on_console};
	uint8_t data[8] = {'h', 0xff, 0xff, 0xff};
	REQUIRE(arch_create(&arch, &options, NULL) == 0);
	bus_access(&bus, BOOT_PL011_ADDR, data, 4, true);
	data[0] = 'i';
	bus_access(&bus, BOOT_PL011_ADDR, data, 1, true);
	bus_access(&bus, BOOT_PL011_ADDR + 0x30, data, 4, true); /* its control register */
	CHECK_STR(heard.text, "hi");
	bus_access(&bus, BOOT_PL011_ADDR + 0x18, data, 4, false);
	CHECK_EQ(data[0] & 0x28, 0); /* not busy, not full */
	CHECK_EQ(data[3], 0);
	arch_destroy(arch);
}

/* --- snapshots, with a KVM that this program plays --- */

#define GIC_FD 1000
#define VCPU_FD 1001
#define SETS_MAX 512u

static const uint64_t listed[] = {KVM_REG_ARM64 | KVM_REG_SIZE_U64 | 1, KVM_REG_ARM64 | KVM_REG_SIZE_U128 | 2,
        KVM_REG_ARM64 | KVM_REG_SIZE_U32 | 3};

static struct {
	uint64_t salt; /* of the values that it has */
	size_t count;
	struct set {
		uint32_t group; /* of the controller; 0: a register of the vCPU */
		uint64_t id, value;
	} set[SETS_MAX];
	bool refuses; /* to set registers of the vCPU */
	unsigned mp_state;
} kvm;

static uint64_t value_of(uint32_t group, uint64_t id)
{
	return (id * 0x9e3779b97f4a7c15u + group) ^ kvm.salt;
}

/* The number of active priorities is that of most processors. */
static bool is_absent(uint32_t group, uint64_t id)
{
	uint64_t group_of_registers = id & 0xfffc;
	bool active = group_of_registers == (3u << 14 | 12u << 7 | 8u << 3 | 4) ||
	              group_of_registers == (3u << 14 | 12u << 7 | 9u << 3);
	return group == KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS && active && id & 3;
}

static int controller(unsigned long request, const struct kvm_device_attr *attr)
{
	bool wide = attr->group == KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS;
	void *at = (void *)(uintptr_t)attr->addr;
	uint64_t value = value_of(attr->group, attr->attr);
	if (is_absent(attr->group, attr->attr)) {
		errno = EINVAL;
		return -1;
	}
	if (request == KVM_GET_DEVICE_ATTR) {
		memcpy(at, &value, wide ? 8 : 4);
		return 0;
	}
	CHECK(request == KVM_SET_DEVICE_ATTR && kvm.count < SETS_MAX);
	value = 0;
	memcpy(&value, at, wide ? 8 : 4);
	kvm.set[kvm.count++ % SETS_MAX] = (struct set){attr->group, attr->attr, value};
	return 0;
}

static int one_register(unsigned long request, const struct kvm_one_reg *reg)
{
	uint64_t *at = (uint64_t *)(uintptr_t)reg->addr, value = value_of(0, reg->id);
	size_t size = 1u << (reg->id >> KVM_REG_SIZE_SHIFT & 0xf);
	if (request == KVM_GET_ONE_REG) {
		memset(at, 0, size);
		memcpy(at, &value, size < 8 ? size : 8);
		return 0;
	}
	if (kvm.refuses) {
		errno = EINVAL;
		return -1;
	}
	kvm.set[kvm.count++ % SETS_MAX] = (struct set){0, reg->id, *at};
	return 0;
}

/* In place of libc's, for the monitor's code in this program. */
int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	va_start(args, request);
	void *argument = va_arg(args, void *);
	va_end(args);
	if (fd == GIC_FD)
		return controller(request, argument);
	CHECK_EQ(fd, VCPU_FD);
	switch (request) {
	case KVM_GET_REG_LIST:
		CHECK(((struct kvm_reg_list *)argument)->n >= 3);
		((struct kvm_reg_list *)argument)->n = 3;
		memcpy(((struct kvm_reg_list *)argument)->reg, listed, sizeof(listed));
		return 0;
	case KVM_GET_ONE_REG:
	case KVM_SET_ONE_REG: return one_register(request, argument);
	case KVM_GET_MP_STATE: ((struct kvm_mp_state *)argument)->mp_state = kvm.mp_state; return 0;
	case KVM_SET_MP_STATE: kvm.mp_state = ((struct kvm_mp_state *)argument)->mp_state; return 0;
	default: CHECK(request == KVM_GET_VCPU_EVENTS || request == KVM_SET_VCPU_EVENTS); return 0;
	}
}

static const struct set *find_set(uint32_t group, uint64_t id)
{
	for (size_t i = 0; i < kvm.count; i++) {
		if (kvm.set[i].group == group && kvm.set[i].id == id)
			return &kvm.set[i];
	}
	return NULL;
}

/* Every register gets the value back that it had, or the kernel's all ones where a write clears. */
static void what_was_saved_is_set_again(void)
{
	static struct state_vm vm;
	static struct state_vcpu vcpu;
	struct err err = {0};
	kvm.mp_state = KVM_MP_STATE_STOPPED;
	REQUIRE(state_save_gic(GIC_FD, &vm, &err) == 0 && state_save_vcpu(GIC_FD, VCPU_FD, 17, &vcpu, &err) == 0);
	kvm.mp_state = KVM_MP_STATE_RUNNABLE;
	REQUIRE(state_restore_gic(GIC_FD, &vm, &err) == 0 && state_restore_vcpu(GIC_FD, VCPU_FD, 17, &vcpu, &err) == 0);
	CHECK_EQ(kvm.mp_state, KVM_MP_STATE_STOPPED);
	size_t controllers = 0;
	for (size_t i = 0; i < kvm.count; i++) {
		const struct set *s = &kvm.set[i];
		uint64_t mask = s->group == 0 || s->group == KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS ? UINT64_MAX : UINT32_MAX;
		if (s->group == 0 && s->id == listed[2])
			mask = UINT32_MAX;
		bool clears = (s->id & 0xff) == 0x80 || (s->id & 0xff) == 0x84;
		CHECK(s->value == (value_of(s->group, s->id) & mask) || (clears && s->value == UINT32_MAX));
		controllers += s->group != 0;
	}
	/* With two clears each of distributor and redistributor, and without six active priorities. */
	CHECK_EQ(controllers, GIC_DISTRIBUTOR_STATE + 2 + GIC_REDISTRIBUTOR_STATE + 2 + GIC_INTERFACE_STATE - 6);
	CHECK_EQ(kvm.set[0].id, 8); /* the revision, before all others */
	const struct set *clear = find_set(KVM_DEV_ARM_VGIC_GRP_DIST_REGS, 0x184),
	                 *enable = find_set(KVM_DEV_ARM_VGIC_GRP_DIST_REGS, 0x104);
	CHECK(clear && enable && clear < enable);
	CHECK(find_set(KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, 0x101ull << 32 | 0x10100)); /* vCPU 17's */
	for (size_t i = 0; i < 3; i++)
		CHECK(find_set(0, listed[i]));
}

static void a_state_of_another_processor_is_refused(void)
{
	static struct state_vcpu vcpu;
	struct err err = {0};
	REQUIRE(state_save_vcpu(GIC_FD, VCPU_FD, 0, &vcpu, &err) == 0);
	kvm.refuses = true;
	CHECK_EQ(state_restore_vcpu(GIC_FD, VCPU_FD, 0, &vcpu, &err), -EINVAL);
	CHECK(strstr(err.text, "another processor") != NULL);
	kvm.refuses = false;
	err = (struct err){0};
	vcpu.reg[1].id |= KVM_REG_SIZE_MASK; /* larger than there is room for */
	CHECK_EQ(state_restore_vcpu(GIC_FD, VCPU_FD, 0, &vcpu, &err), -EINVAL);
	CHECK(strstr(err.text, "damaged") != NULL);
	err = (struct err){0};
	vcpu.count = STATE_REGISTERS_MAX + 1;
	CHECK_EQ(state_restore_vcpu(GIC_FD, VCPU_FD, 0, &vcpu, &err), -EINVAL);
	CHECK(strstr(err.text, "damaged") != NULL);
}

TEST_MAIN("arm64", {"an_image_is_loaded_where_it_wants", an_image_is_loaded_where_it_wants},
        {"lies_are_refused", lies_are_refused}, {"other_kernels_are_named", other_kernels_are_named},
        {"the_writer_counts_what_it_writes", the_writer_counts_what_it_writes},
        {"the_tree_describes_the_machine", the_tree_describes_the_machine},
        {"a_guest_ends_in_one_of_these_ways", a_guest_ends_in_one_of_these_ways},
        {"the_early_console_writes", the_early_console_writes},
        {"what_was_saved_is_set_again", what_was_saved_is_set_again},
        {"a_state_of_another_processor_is_refused", a_state_of_another_processor_is_refused})
