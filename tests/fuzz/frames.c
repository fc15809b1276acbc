/* SPDX-License-Identifier: Apache-2.0 */
/* The reader of compressed snapshots: a file of any bytes, and one with a right table of frames and any frames. */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zstd.h>

#include "tests/fuzz/fuzz.h"
#include "vmm/lib/frames.h"

#define READ_MAX (2u * FRAMES_CONTENT + 4096)

static void put(int fd, const void *data, size_t size)
{
	MUST(write(fd, data, size) == (ssize_t)size);
}

/* What the reader accepts, it reads to its end, in pieces of any size. */
static void read_all(struct frames *f, struct input *in)
{
	static uint8_t buffer[READ_MAX];
	const char *why = NULL;
	uint64_t offset = in32(in) % (f->content_size + 1);
	size_t size = in32(in) % READ_MAX + 1;
	MUST(f->count > 0 && f->content_size <= (uint64_t)f->count * FRAMES_CONTENT);
	for (int i = 0; i < 8; i++) {
		ssize_t n = frames_read(f, buffer, size, offset, &why);
		MUST(n >= 0 || (n == -EBADMSG && why));
		if (n <= 0)
			break;
		MUST((size_t)n <= size && offset + (uint64_t)n <= f->content_size);
		touch(buffer, (size_t)n);
		offset += (uint64_t)n;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct frames f;
	const char *why = NULL;
	int fd = memfd_create("frames", MFD_CLOEXEC);
	MUST(fd >= 0);
	uint8_t kind = in8(&in);
	uint32_t table[1 + 1 + 2 * 3] = {0x184d2a5e, 0};
	uint32_t count = kind & 2 ? kind % 4 : 1;
	for (uint32_t i = 0; kind & 1 && i < count; i++) {
		/* A frame that is right, one of any bytes, or one whose table lies of what it has. */
		uint8_t packed[256], raw[64];
		size_t got, content = in8(&in) % 64 + 1u;
		const uint8_t *piece = in_piece(&in, in8(&in) % 200u, &got);
		memset(raw, (int)i, sizeof(raw));
		size_t length = got ? got : ZSTD_compress(packed, sizeof(packed), raw, content, 1);
		put(fd, got ? piece : packed, length);
		table[2 + 2 * i] = (uint32_t)length;
		table[3 + 2 * i] = kind & 4 ? in32(&in) : i + 1 < count ? FRAMES_CONTENT : (uint32_t)content;
	}
	if (kind & 1) {
		table[1] = count * 8 + 9;
		put(fd, table, 8 + count * 8);
		const uint8_t footer[9] = {(uint8_t)count, [5] = 0xb1, 0xea, 0x92, 0x8f};
		put(fd, footer, sizeof(footer));
	} else {
		put(fd, in.at, in.left);
	}
	int ret = frames_open(fd, &f, &why);
	MUST(ret == 0 || (ret == -EBADMSG && why));
	if (ret == 0) {
		read_all(&f, &in);
		frames_close(&f);
	}
	close(fd);
	return 0;
}
