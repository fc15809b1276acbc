/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory. This module owns the guest's RAM and is the only place that turns guest addresses into host pointers.
 *
 * A guest address has a type of its own, so that it cannot be used as an integer or a pointer by mistake. Every access
 * states its length; a range that is not entirely inside one region gives NULL (or -EFAULT), never a part of it. The
 * guest changes this memory while the host reads it: copy first, check the copy, then act on the copy.
 */
#ifndef WISP_MONITOR_GMEM_H
#define WISP_MONITOR_GMEM_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/monitor/err.h"

typedef struct {
	uint64_t addr;
} gpa_t;

static inline gpa_t gpa(uint64_t addr)
{
	return (gpa_t){addr};
}

struct gmem_region {
	uint64_t start; /* guest physical */
	uint64_t size;  /* bytes */
	uint8_t *host;
};

/* RAM below the 32-bit hole of devices, and RAM from 4 GiB on. */
#define GMEM_REGIONS_MAX 2

struct gmem {
	struct gmem_region region[GMEM_REGIONS_MAX];
	unsigned count;
};

/*
 * Reserves `size` bytes of zeroed RAM (a multiple of the page size; not populated), laid out from address 0 and, past
 * `hole_start`, from `hole_end` on. 0 or -errno with `err` set. The memory belongs to `gmem` until gmem_destroy.
 */
int gmem_create(struct gmem *gmem, uint64_t size, uint64_t hole_start, uint64_t hole_end, struct err *err);

/*
 * Replaces RAM with `len` bytes of a file, from `offset` on, all of them multiples of the page size. The pages are
 * those of the host's page cache until the guest writes to them, which changes the guest's memory alone. The file must
 * be that long; writing to it later may change what the guest sees, and truncating it ends the guest (sigbus.h). Before
 * KVM knows the memory. 0, or -errno with the RAM as it was.
 */
int gmem_map_file(const struct gmem *gmem, gpa_t addr, uint64_t len, int fd, uint64_t offset);

/* Fills the host's page table with a mapped file's pages at once instead of fault by fault. A hint. */
void gmem_populate(const struct gmem *gmem, gpa_t addr, uint64_t len);

/*
 * Copies the blocks of 2 MiB that have contents into huge pages of this process's own, where they are shared with
 * another process or with a file's pages. The guest then takes one fault for a block instead of one for each page, and
 * none that copies. The contents stay as they are. Before KVM knows the memory. A hint: what cannot be copied stays
 * shared.
 */
void gmem_prefetch(const struct gmem *gmem);

/*
 * Gives the whole pages of a range that gmem_ptr returned back to the host. What the guest finds there afterwards is
 * zeros, or what a file has that is mapped there: contents that it has had before, and nobody else's. Any thread.
 */
void gmem_discard(void *host, uint64_t len);

/* What to do about a refused reservation, as the file `overcommit` tells. For gmem_create, and for its test. */
#define GMEM_OVERCOMMIT "/proc/sys/vm/overcommit_memory"
const char *gmem_refusal_hint(const char *overcommit);

/* Releases the memory. Takes a zeroed or destroyed object. Nothing may be in flight that points into it. */
void gmem_destroy(struct gmem *gmem);

/* A host pointer to `len` bytes at `addr`, NULL if any of them is outside RAM. A length of 0 gives NULL. Any thread. */
void *gmem_ptr(const struct gmem *gmem, gpa_t addr, uint64_t len);

/* Copy out of or into the guest: 0 or -EFAULT. */
int gmem_read(const struct gmem *gmem, gpa_t addr, void *to, size_t len);
int gmem_write(const struct gmem *gmem, gpa_t addr, const void *from, size_t len);

#endif
