/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crashcheck write PATH FIRST: writes records FIRST, FIRST + 1, ... to a disk for ever, flushes each, and then says its
 * number on a line of its own. For the guest, which is killed at any moment.
 * crashcheck check PATH LAST: exits 0 when everything up to record LAST is on the disk; says the newest whole record.
 *
 * A record is PARTS blocks in as many places, so that a flush has several requests to wait for. Its place is used again
 * SLOTS records later. What is on the disk may be newer than LAST; one record, the newest, may be there in part.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLOTS 64u
#define PARTS 4u
#define BLOCK 4096u

struct block {
	uint64_t number, part;
	uint64_t words[BLOCK / 8 - 2];
};

_Static_assert(sizeof(struct block) == BLOCK, "a block of the disk");

static void fill(struct block *block, uint64_t number, uint64_t part)
{
	uint64_t x = (number * PARTS + part) * 0x9e3779b97f4a7c15u + 1;
	block->number = number;
	block->part = part;
	for (unsigned i = 0; i < sizeof(block->words) / 8; i++)
		block->words[i] = x += 0xd1342543de82ef95u;
}

static off_t place(uint64_t number, uint64_t part)
{
	return (off_t)((part * SLOTS + number % SLOTS) * BLOCK);
}

static int fail(const char *what, uint64_t number)
{
	fprintf(stderr, "crashcheck: %s: record %llu\n", what, (unsigned long long)number);
	return 1;
}

static int write_records(int fd, uint64_t number)
{
	static struct block block;
	for (;; number++) {
		for (uint64_t part = 0; part < PARTS; part++) {
			fill(&block, number, part);
			if (pwrite(fd, &block, BLOCK, place(number, part)) != (ssize_t)BLOCK)
				return fail("cannot write", number);
		}
		if (fdatasync(fd) < 0)
			return fail("cannot flush", number);
		char line[24];
		int length = snprintf(line, sizeof(line), "%llu\n", (unsigned long long)number);
		if (write(STDOUT_FILENO, line, (size_t)length) != length)
			return 1;
	}
}

/* The number of what lies in a slot's part; 0: nothing, or something broken. */
static uint64_t look(int fd, uint64_t slot, uint64_t part)
{
	static struct block block, wanted;
	if (pread(fd, &block, BLOCK, place(slot, part)) != (ssize_t)BLOCK || block.number % SLOTS != slot)
		return 0;
	fill(&wanted, block.number, part);
	return memcmp(&block, &wanted, BLOCK) == 0 ? block.number : 0;
}

static int check_records(int fd, uint64_t last)
{
	uint64_t found[PARTS][SLOTS], newest = 0;
	for (uint64_t part = 0; part < PARTS; part++) {
		for (uint64_t slot = 0; slot < SLOTS; slot++) {
			found[part][slot] = look(fd, slot, part);
			if (found[part][slot] > newest)
				newest = found[part][slot];
		}
	}
	if (newest < last)
		return fail("the newest on the disk is older than what was flushed", newest);
	/* The one under way may be the newest, or not seen at all yet. */
	uint64_t partial = newest;
	for (uint64_t part = 0; part < PARTS; part++)
		partial = found[part][newest % SLOTS] == newest ? partial : 0;
	partial = partial ? newest + 1 : newest;
	for (uint64_t slot = 0; slot < SLOTS; slot++) {
		uint64_t due = newest - (newest - slot) % SLOTS; /* the newest of this slot */
		if (newest < slot || due == 0 || (partial > last && slot == partial % SLOTS))
			continue;
		for (uint64_t part = 0; part < PARTS; part++) {
			if (found[part][slot] != due)
				return fail("lost or broken", due);
		}
	}
	printf("%llu\n", (unsigned long long)(newest > 0 ? partial - 1 : 0));
	return 0;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	int writes = strcmp(argv[1], "write") == 0;
	uint64_t number = strtoull(argv[3], NULL, 10);
	int fd = open(argv[2], writes ? O_RDWR : O_RDONLY);
	if (fd < 0)
		return fail("cannot open the disk for", number);
	return writes ? write_records(fd, number) : check_records(fd, number);
}
