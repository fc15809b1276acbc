/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/aarch64/fdt.h"

#include <endian.h>
#include <string.h>

#define MAGIC 0xd00dfeedu
#define VERSION 17u
#define LAST_COMPATIBLE_VERSION 16u

enum { BEGIN_NODE = 1, END_NODE = 2, PROPERTY = 3, END = 9 };

struct head {
	uint32_t magic, total, nodes_at, names_at, reserved_at, version, last_compatible, boot_cpu, names_size,
	        nodes_size;
};

/* Behind the head comes the list of reserved memory, which has nothing but its end. */
#define RESERVED_AT sizeof(struct head)
#define NODES_AT (RESERVED_AT + 16)

/* Padded with zeros to a multiple of 4. */
static void put(struct fdt *fdt, const void *from, size_t size)
{
	size_t padded = (size + 3) & ~(size_t)3;
	if (fdt->full || size > sizeof(fdt->bytes) || padded > sizeof(fdt->bytes) - fdt->used) {
		fdt->full = true;
		return;
	}
	if (size > 0)
		memcpy(fdt->bytes + fdt->used, from, size);
	memset(fdt->bytes + fdt->used + size, 0, padded - size);
	fdt->used += padded;
}

static void put_cell(struct fdt *fdt, uint32_t value)
{
	value = htobe32(value);
	put(fdt, &value, sizeof(value));
}

/* Where a property's name is among the names. */
static uint32_t place_of(struct fdt *fdt, const char *name)
{
	size_t at = 0, size = strlen(name) + 1;
	while (at < fdt->names_used && strcmp(fdt->names + at, name) != 0)
		at += strlen(fdt->names + at) + 1;
	if (at == fdt->names_used) {
		if (size > sizeof(fdt->names) - at) {
			fdt->full = true;
			return 0;
		}
		memcpy(fdt->names + at, name, size);
		fdt->names_used += size;
	}
	return (uint32_t)at;
}

void fdt_init(struct fdt *fdt)
{
	fdt->full = false;
	fdt->used = NODES_AT;
	fdt->names_used = 0;
}

void fdt_begin_node(struct fdt *fdt, const char *name)
{
	put_cell(fdt, BEGIN_NODE);
	put(fdt, name, strlen(name) + 1);
}

void fdt_end_node(struct fdt *fdt)
{
	put_cell(fdt, END_NODE);
}

void fdt_add(struct fdt *fdt, const char *name, const void *value, size_t size)
{
	put_cell(fdt, PROPERTY);
	put_cell(fdt, (uint32_t)size);
	put_cell(fdt, place_of(fdt, name));
	put(fdt, value, size);
}

void fdt_add_text(struct fdt *fdt, const char *name, const char *value)
{
	fdt_add(fdt, name, value, strlen(value) + 1);
}

void fdt_add_cells(struct fdt *fdt, const char *name, const uint32_t *cells, size_t count)
{
	put_cell(fdt, PROPERTY);
	put_cell(fdt, (uint32_t)(count * sizeof(*cells)));
	put_cell(fdt, place_of(fdt, name));
	for (size_t i = 0; i < count; i++)
		put_cell(fdt, cells[i]);
}

void fdt_add_wide(struct fdt *fdt, const char *name, const uint64_t *values, size_t count)
{
	put_cell(fdt, PROPERTY);
	put_cell(fdt, (uint32_t)(count * sizeof(*values)));
	put_cell(fdt, place_of(fdt, name));
	for (size_t i = 0; i < count; i++) {
		put_cell(fdt, (uint32_t)(values[i] >> 32));
		put_cell(fdt, (uint32_t)values[i]);
	}
}

size_t fdt_finish(struct fdt *fdt)
{
	put_cell(fdt, END);
	size_t names_at = fdt->used;
	put(fdt, fdt->names, fdt->names_used);
	const struct head head = {.magic = htobe32(MAGIC),
	        .total = htobe32((uint32_t)fdt->used),
	        .nodes_at = htobe32(NODES_AT),
	        .names_at = htobe32((uint32_t)names_at),
	        .reserved_at = htobe32(RESERVED_AT),
	        .version = htobe32(VERSION),
	        .last_compatible = htobe32(LAST_COMPATIBLE_VERSION),
	        .names_size = htobe32((uint32_t)fdt->names_used),
	        .nodes_size = htobe32((uint32_t)(names_at - NODES_AT))};
	memset(fdt->bytes, 0, NODES_AT);
	memcpy(fdt->bytes, &head, sizeof(head));
	return fdt->full ? 0 : fdt->used;
}
