/* SPDX-License-Identifier: Apache-2.0 */
/* Guest addresses: every range is whole inside RAM or refused, whatever it overflows. */
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/test.h"
#include "vmm/monitor/gmem.h"

#define MIB (1ull << 20)

/* 8 MiB from 0, a hole from 8 to 16 MiB, 4 MiB after it. */
static struct gmem make(void)
{
	struct gmem g;
	struct err err = {0};
	if (gmem_create(&g, 12 * MIB, 8 * MIB, 16 * MIB, &err) < 0)
		printf("# %s\n", err.text);
	return g;
}

static void layout_goes_round_the_hole(void)
{
	struct gmem g = make();
	CHECK_EQ(g.count, 2);
	CHECK_EQ(g.region[0].size, 8 * MIB);
	CHECK_EQ(g.region[1].start, 16 * MIB);
	CHECK_EQ(g.region[1].size, 4 * MIB);
	/* Host and guest addresses agree below 2 MiB: what KVM needs to map huge pages. */
	CHECK_EQ((uintptr_t)g.region[0].host % (2 * MIB), 0);
	CHECK_EQ((uintptr_t)g.region[1].host % (2 * MIB), 0);
	gmem_destroy(&g);
	CHECK_EQ(g.count, 0);
	gmem_destroy(&g); /* again: harmless */
}

static void ranges_are_whole_or_refused(void)
{
	static const struct {
		uint64_t addr, len;
		bool good;
	} t[] = {
	        {0, 1, true},
	        {0, 8 * MIB, true},
	        {0, 8 * MIB + 1, false},
	        {8 * MIB - 1, 1, true},
	        {8 * MIB - 1, 2, false},
	        {8 * MIB, 1, false},
	        {16 * MIB - 1, 1, false},
	        {16 * MIB - 1, 2, false}, /* straddles into RAM */
	        {16 * MIB, 4 * MIB, true},
	        {20 * MIB - 1, 1, true},
	        {20 * MIB - 1, 2, false},
	        {20 * MIB, 1, false},
	        {0, 0, false},
	        {4096, UINT64_MAX, false},
	        {UINT64_MAX, 1, false},
	        {UINT64_MAX - 4095, 8192, false}, /* wraps round to RAM */
	        {16 * MIB, UINT64_MAX - 16 * MIB + 2, false},
	};
	struct gmem g = make();
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		bool got = gmem_ptr(&g, gpa(t[i].addr), t[i].len) != NULL;
		if (got != t[i].good) {
			printf("# range %zu\n", i);
			CHECK(got == t[i].good);
		}
	}
	gmem_destroy(&g);
}

static void copies_arrive_or_nothing_does(void)
{
	struct gmem g = make();
	uint32_t value = 0x12345678, back = 0;
	CHECK_EQ(gmem_write(&g, gpa(20 * MIB - 4), &value, 4), 0);
	CHECK_EQ(gmem_read(&g, gpa(20 * MIB - 4), &back, 4), 0);
	CHECK_EQ(back, value);
	CHECK_EQ(gmem_write(&g, gpa(20 * MIB - 3), &value, 4), -EFAULT);
	CHECK_EQ(gmem_read(&g, gpa(8 * MIB), &back, 4), -EFAULT);
	CHECK_EQ(back, value);
	gmem_destroy(&g);
}

static void impossible_sizes_say_so(void)
{
	struct gmem g;
	struct err err = {0};
	CHECK(gmem_create(&g, 1ull << 62, 1ull << 61, 1ull << 61, &err) < 0);
	CHECK(strstr(err.text, "MiB of guest memory") != NULL);
	CHECK_EQ(g.count, 0);
}

/* Blocks of anonymous memory and of a file, and one without contents, which stays shared with nobody. */
static void prefetched_blocks_keep_their_contents(void)
{
	struct gmem g = make();
	int fd = memfd_create("memory", MFD_CLOEXEC);
	uint8_t page[4096];
	memset(page, 0x5a, sizeof(page));
	for (unsigned i = 0; i < 256; i++)
		CHECK_EQ(write(fd, page, sizeof(page)), (long)sizeof(page));
	CHECK_EQ(gmem_map_file(&g, gpa(4 * MIB), MIB, fd, 0), 0);
	memset(gmem_ptr(&g, gpa(2 * MIB), MIB), 0x77, MIB);
	CHECK_EQ(gmem_write(&g, gpa(16 * MIB), "a", 1), 0); /* too little to copy */
	gmem_prefetch(&g);
	/* The block is not the file's any more. */
	CHECK_EQ(ftruncate(fd, 0), 0);
	const uint8_t *file = gmem_ptr(&g, gpa(4 * MIB), 2 * MIB), *own = gmem_ptr(&g, gpa(2 * MIB), 2 * MIB);
	CHECK(file[0] == 0x5a && file[MIB - 1] == 0x5a && file[MIB] == 0);
	CHECK(own[0] == 0x77 && own[MIB - 1] == 0x77 && own[MIB] == 0);
	CHECK_EQ(*(const char *)gmem_ptr(&g, gpa(16 * MIB), 1), 'a');
	CHECK_EQ(*(const uint8_t *)gmem_ptr(&g, gpa(6 * MIB), 1), 0);
	close(fd);
	gmem_destroy(&g);
}

static bool is_resident(const void *page)
{
	unsigned char resident = 0;
	CHECK_EQ(mincore((void *)(uintptr_t)page, 4096, &resident), 0);
	return resident & 1;
}

/* Whole pages only, and those of a file have its contents again, not those of the guest. */
static void discarded_pages_are_given_back(void)
{
	struct gmem g = make();
	int fd = memfd_create("memory", MFD_CLOEXEC);
	CHECK_EQ(ftruncate(fd, MIB), 0);
	CHECK_EQ(pwrite(fd, "file", 4, 0), 4);
	CHECK_EQ(gmem_map_file(&g, gpa(4 * MIB), MIB, fd, 0), 0);
	uint8_t *host = gmem_ptr(&g, gpa(0), 8 * MIB), *file = gmem_ptr(&g, gpa(4 * MIB), MIB);
	memset(host, 0x77, MIB);
	memcpy(file, "mine", 4);
	gmem_discard(host + 1, 3 * 4096);
	CHECK(host[0] == 0x77 && host[4095] == 0x77 && host[4096] == 0 && host[3 * 4096 - 1] == 0);
	CHECK(host[3 * 4096] == 0x77);
	gmem_discard(host + 4 * 4096 + 1, 4096); /* no page is whole */
	gmem_discard(host + 4 * 4096, 4095);
	gmem_discard(host + 4 * 4096, 0);
	CHECK(host[4 * 4096] == 0x77 && host[5 * 4096] == 0x77);
	gmem_discard(host, 8 * MIB);
	CHECK(!is_resident(host + 8 * 4096));
	CHECK(host[MIB - 1] == 0);
	CHECK(memcmp(file, "file", 4) == 0);
	close(fd);
	gmem_destroy(&g);
}

static const char *hint_for(const char *setting)
{
	char path[32];
	int fd = memfd_create("overcommit_memory", MFD_CLOEXEC);
	CHECK_EQ(write(fd, setting, strlen(setting)), (long)strlen(setting));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	const char *hint = gmem_refusal_hint(path);
	close(fd);
	return hint;
}

static void a_strict_host_is_explained(void)
{
	CHECK(strstr(hint_for("2\n"), "vm.overcommit_memory=2") != NULL);
	CHECK(strstr(hint_for("0\n"), "overcommit") == NULL);
	CHECK(strstr(hint_for(""), "--memory") != NULL);
	CHECK(strstr(gmem_refusal_hint("/nonexistent"), "--memory") != NULL);
}

TEST_MAIN("gmem", {"layout_goes_round_the_hole", layout_goes_round_the_hole},
        {"ranges_are_whole_or_refused", ranges_are_whole_or_refused},
        {"copies_arrive_or_nothing_does", copies_arrive_or_nothing_does},
        {"prefetched_blocks_keep_their_contents", prefetched_blocks_keep_their_contents},
        {"discarded_pages_are_given_back", discarded_pages_are_given_back},
        {"impossible_sizes_say_so", impossible_sizes_say_so},
        {"a_strict_host_is_explained", a_strict_host_is_explained})
