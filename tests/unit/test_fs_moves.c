/* SPDX-License-Identifier: Apache-2.0 */
/* wisp-fs: what the host moves and removes while the guest knows it or has it open. */
#include "tests/unit/fs_client.h"

#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define ROOT 1u

/*
 * Two who read a folder in turns, and go back to the second entry of each reply. wisp-fs does not seek for that: where
 * the host's offsets count what is there, it would miss entries after others have been removed.
 */
static void reading_on(void)
{
	enum { FILES = 1500 };
	static uint8_t seen[2][FILES];
	struct fuse_read_in in[2] = {{.size = 512}, {.size = 4096}};
	REQUIRE(client_start(&(struct start){.fails = SYS_lseek}));
	for (unsigned i = 0; i < FILES; i++)
		REQUIRE(put(at("%u", i), ""));
	for (unsigned i = 0; i < 2; i++)
		in[i].fh = (uint64_t)open_node(ROOT, O_RDONLY | O_DIRECTORY);
	for (bool more = true; more;) {
		more = false;
		for (unsigned i = 0; i < 2; i++) {
			REQUIRE(call(FUSE_READDIR, ROOT, &in[i], sizeof(in[i])) == 0);
			unsigned entry = 0;
			for (uint32_t from = 0; from < client.size && entry < 2; entry++) {
				const struct fuse_dirent *d = (const void *)(client.in + from);
				if (d->name[0] != '.')
					seen[i][strtoul(d->name, NULL, 10)] = 1;
				in[i].offset = d->off;
				from += (uint32_t)FUSE_DIRENT_SIZE(d);
				more = true;
			}
		}
	}
	for (unsigned i = 0; i < FILES; i++)
		CHECK(seen[0][i] && seen[1][i]);
	client_end();
}

TEST_MAIN("fs_moves", {"reading_on", reading_on})
