/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes a flattened device tree: Devicetree Specification 0.4, chapter 5. Nodes and properties are added in their
 * order, then the tree is finished. What does not fit is noticed at the end.
 */
#ifndef WISP_MONITOR_AARCH64_FDT_H
#define WISP_MONITOR_AARCH64_FDT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FDT_BYTES_MAX 32768u
#define FDT_NAMES_MAX 512u

struct fdt {
	bool full;
	size_t used, names_used;
	uint8_t bytes[FDT_BYTES_MAX]; /* the tree; until it is finished, without its head and names */
	char names[FDT_NAMES_MAX];    /* of properties, each once */
};

/* Begins an empty tree; the root is the first node. */
void fdt_init(struct fdt *fdt);

void fdt_begin_node(struct fdt *fdt, const char *name);
void fdt_end_node(struct fdt *fdt);

/* Properties of the node that was begun last. */
void fdt_add(struct fdt *fdt, const char *name, const void *value, size_t size);
void fdt_add_text(struct fdt *fdt, const char *name, const char *value);
void fdt_add_cells(struct fdt *fdt, const char *name, const uint32_t *cells, size_t count);
/* Two cells for each value. */
void fdt_add_wide(struct fdt *fdt, const char *name, const uint64_t *values, size_t count);

/* Returns the size of the whole tree, which then begins at fdt->bytes; 0 if it did not fit. */
size_t fdt_finish(struct fdt *fdt);

#endif
