/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/gmem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/shared/zero.h"

#define HUGE_PAGE (2ull << 20)
#define PAGE_SIZE 4096u

/* A block with fewer pages stays as it is: as many faults cost less than 2 MiB of memory. */
#define PREFETCH_PAGES_MIN 16u

#ifndef MADV_POPULATE_READ /* musl 1.2.3 */
#define MADV_POPULATE_READ 22
#endif

/*
 * Reserves memory at a multiple of 2 MiB, like the guest addresses of regions: only then can KVM map huge pages, and a
 * boot takes a hundred faults instead of thousands. Kernels before 6.7 do not align mappings themselves.
 */
static void *reserve(uint64_t size)
{
	/* NORESERVE: a guest may have more memory than it touches; a cgroup limits what it touches. */
	uint8_t *all = mmap(
	        NULL, size + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (all == MAP_FAILED)
		return NULL;
	uint64_t before = -(uintptr_t)all & (HUGE_PAGE - 1);
	if (before > 0)
		munmap(all, before);
	munmap(all + before + size, HUGE_PAGE - before);
	return all + before;
}

const char *gmem_refusal_hint(const char *overcommit)
{
	char mode = '\0';
	int fd = open(overcommit, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (read(fd, &mode, 1) != 1)
			mode = '\0';
		close(fd);
	}
	return mode == '2'
	               ? "the host accounts all memory that is reserved (vm.overcommit_memory=2): ask for less with "
	                 "--memory, raise vm.overcommit_ratio, or set vm.overcommit_memory to 0 or 1"
	               : "ask for less with --memory";
}

static int add_region(struct gmem *gmem, uint64_t start, uint64_t size, struct err *err)
{
	void *host = reserve(size);
	if (!host)
		return err_set(err, ENOMEM, "cannot reserve %llu MiB of guest memory: %s; %s",
		        (unsigned long long)size >> 20, strerror(ENOMEM), gmem_refusal_hint(GMEM_OVERCOMMIT));
	/*
	 * Huge pages mean fewer faults at boot and a smaller second-level page table. They are a hint, which may fail.
	 * The first 2 MiB of a machine go without: a boot touches a few of their pages, and clearing the others would
	 * cost the start 0.1 ms, and every sandbox the memory.
	 */
	uint64_t low = start == 0 && size > HUGE_PAGE ? HUGE_PAGE : 0;
	madvise((uint8_t *)host + low, size - low, MADV_HUGEPAGE);
	madvise(host, size, MADV_DONTDUMP);
	gmem->region[gmem->count++] = (struct gmem_region){.start = start, .size = size, .host = host};
	return 0;
}

int gmem_create(struct gmem *gmem, uint64_t size, uint64_t hole_start, uint64_t hole_end, struct err *err)
{
	*gmem = (struct gmem){0};
	uint64_t low = size < hole_start ? size : hole_start;
	int ret = add_region(gmem, 0, low, err);
	if (ret == 0 && size > low)
		ret = add_region(gmem, hole_end, size - low, err);
	if (ret < 0)
		gmem_destroy(gmem);
	return ret;
}

int gmem_map_file(const struct gmem *gmem, gpa_t addr, uint64_t len, int fd, uint64_t offset)
{
	void *host = gmem_ptr(gmem, addr, len);
	if (!host)
		return -EFAULT;
	/* Mapped elsewhere first: if the file cannot be mapped, the RAM stays as it is. */
	void *pages = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, (off_t)offset);
	if (pages == MAP_FAILED)
		return -errno;
	madvise(pages, len, MADV_DONTDUMP);
	if (mremap(pages, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, host) == MAP_FAILED) {
		int ret = -errno;
		munmap(pages, len);
		return ret;
	}
	return 0;
}

void gmem_populate(const struct gmem *gmem, gpa_t addr, uint64_t len)
{
	void *host = gmem_ptr(gmem, addr, len);
	if (host)
		madvise(host, len, MADV_POPULATE_READ); /* Linux 5.14 */
}

/*
 * Whether enough of a block's pages exist to be worth a copy. mincore(2) does not know pages that are swapped out, and
 * knows those of a file that nobody has touched, and the zero page: it decides only which blocks stay as they are.
 */
static bool is_populated(uint8_t *block)
{
	unsigned char resident[HUGE_PAGE / PAGE_SIZE];
	unsigned pages = 0;
	if (mincore(block, HUGE_PAGE, resident) < 0)
		return false;
	for (unsigned i = 0; i < HUGE_PAGE / PAGE_SIZE; i++)
		pages += resident[i] & 1;
	return pages >= PREFETCH_PAGES_MIN && !is_zero(block, HUGE_PAGE);
}

/* Copied at once: what the monitor needs for it next to the guest's memory is bounded (jail.c). */
#define PREFETCH_STEP (64u << 20)

/* Replaces the blocks by copies. They are copied elsewhere first: if there is no memory, they stay. */
static bool make_own(uint8_t *blocks, uint64_t size)
{
	uint8_t *own = reserve(size);
	if (!own)
		return false;
	madvise(own, size, MADV_HUGEPAGE);
	madvise(own, size, MADV_DONTDUMP);
	memcpy(own, blocks, size);
	if (mremap(own, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, blocks) != MAP_FAILED)
		return true;
	munmap(own, size);
	return false;
}

void gmem_prefetch(const struct gmem *gmem)
{
	bool good = true;
	for (unsigned i = 0; i < gmem->count; i++) {
		const struct gmem_region *r = &gmem->region[i];
		for (uint64_t at = 0, run; at + HUGE_PAGE <= r->size && good; at += run ? run : HUGE_PAGE) {
			for (run = 0; at + run + HUGE_PAGE <= r->size && run < PREFETCH_STEP &&
			              is_populated(r->host + at + run);)
				run += HUGE_PAGE;
			good = run == 0 || make_own(r->host + at, run);
		}
	}
}

/*
 * A new anonymous mapping would give zeros for certain, but each would be a mapping of its own, of which a process has
 * 65530, and the guest chooses how many.
 */
void gmem_discard(void *host, uint64_t len)
{
	uint64_t before = -(uintptr_t)host & (PAGE_SIZE - 1);
	if (len >= before + PAGE_SIZE)
		madvise((uint8_t *)host + before, (len - before) & ~(uint64_t)(PAGE_SIZE - 1), MADV_DONTNEED);
}

void gmem_destroy(struct gmem *gmem)
{
	for (unsigned i = 0; i < gmem->count; i++)
		munmap(gmem->region[i].host, gmem->region[i].size);
	*gmem = (struct gmem){0};
}

void *gmem_ptr(const struct gmem *gmem, gpa_t addr, uint64_t len)
{
	for (unsigned i = 0; i < gmem->count; i++) {
		const struct gmem_region *r = &gmem->region[i];
		/* By subtraction only: addr + len may overflow. An address below start wraps to a huge offset. */
		uint64_t offset = addr.addr - r->start;
		if (offset < r->size && len != 0 && len <= r->size - offset)
			return r->host + offset;
	}
	return NULL;
}

int gmem_read(const struct gmem *gmem, gpa_t addr, void *to, size_t len)
{
	const void *from = gmem_ptr(gmem, addr, len);
	if (!from)
		return -EFAULT;
	memcpy(to, from, len);
	return 0;
}

int gmem_write(const struct gmem *gmem, gpa_t addr, const void *from, size_t len)
{
	void *to = gmem_ptr(gmem, addr, len);
	if (!to)
		return -EFAULT;
	memcpy(to, from, len);
	return 0;
}
