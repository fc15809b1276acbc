/* SPDX-License-Identifier: Apache-2.0 */
/*
 * diskcheck write|read PATH MIB [FIRST]: fills a file or disk, from MiB FIRST on, with numbers that are nowhere the
 * same, and syncs; or reads it back and compares. For the guest; exits 0 when all is well, and says where it is not.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK (1u << 20)

static uint64_t block[BLOCK / 8], back[BLOCK / 8];

static void fill(uint64_t number)
{
	uint64_t x = number * 0x9e3779b97f4a7c15u + 1;
	for (unsigned i = 0; i < BLOCK / 8; i++)
		block[i] = x += 0xd1342543de82ef95u;
}

static int fail(const char *what, uint64_t number)
{
	fprintf(stderr, "diskcheck: %s at MiB %llu\n", what, (unsigned long long)number);
	return 1;
}

int main(int argc, char **argv)
{
	if (argc != 4 && argc != 5)
		return 2;
	int writes = strcmp(argv[1], "write") == 0;
	uint64_t first = argc == 5 ? strtoull(argv[4], NULL, 10) : 0, count = first + strtoull(argv[3], NULL, 10);
	int fd = open(argv[2], writes ? O_WRONLY | O_CREAT : O_RDONLY, 0600);
	if (fd < 0 || lseek(fd, (off_t)(first * BLOCK), SEEK_SET) < 0)
		return fail("cannot open", first);
	for (uint64_t n = first; n < count; n++) {
		fill(n);
		if (writes && write(fd, block, BLOCK) != (ssize_t)BLOCK)
			return fail("cannot write", n);
		if (!writes) {
			for (size_t got = 0; got < BLOCK;) {
				ssize_t r = read(fd, (char *)back + got, BLOCK - got);
				if (r <= 0)
					return fail("cannot read", n);
				got += (size_t)r;
			}
			if (memcmp(block, back, BLOCK) != 0)
				return fail("other data", n);
		}
	}
	return fsync(fd) < 0 && writes ? fail("cannot sync", count) : 0;
}
