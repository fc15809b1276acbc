/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/smaps.h"

#include <stdio.h>
#include <string.h>

/* "7f0000000000-7f0000001000 rw-p ...": the kernel joins mappings that are alike, so any of the guest's pages counts.
 */
static bool is_guest(const struct gmem *gmem, unsigned long long start, unsigned long long end)
{
	bool is = false;
	for (unsigned i = 0; gmem && i < gmem->count; i++) {
		uintptr_t host = (uintptr_t)gmem->region[i].host;
		is |= start < host + gmem->region[i].size && host < end;
	}
	return is;
}

/* "Pss:      12 kB" */
static void take_line(struct smaps *s)
{
	struct stats_memory *memory = s->is_guest ? &s->guest : &s->monitor;
	unsigned long long start, end, kib;
	char name[24];
	if (sscanf(s->line, "%llx-%llx ", &start, &end) == 2) {
		s->is_guest = is_guest(s->gmem, start, end);
		return;
	}
	if (sscanf(s->line, "%23[A-Za-z_]: %llu kB", name, &kib) != 2)
		return;
	if (strcmp(name, "Rss") == 0)
		memory->resident += kib << 10;
	else if (strcmp(name, "Pss") == 0)
		memory->proportional += kib << 10;
	else if (strcmp(name, "Private_Clean") == 0 || strcmp(name, "Private_Dirty") == 0)
		memory->private += kib << 10;
	else if (strcmp(name, "Swap") == 0)
		memory->swapped += kib << 10;
}

void smaps_take(struct smaps *s, const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		if (text[i] == '\n') {
			s->line[s->used] = '\0';
			take_line(s);
			s->used = 0;
		} else if (s->used < SMAPS_LINE_MAX - 1) {
			s->line[s->used++] = text[i];
		}
	}
}
