/* SPDX-License-Identifier: Apache-2.0 */
/* In libFuzzer's place: runs the inputs named on the command line. What is found ends the program. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "tests/fuzz/fuzz.h"

#define INPUT_MAX (1u << 20)

/* Relative to where the program was started: a target may work in a folder of its own. */
static void replay(int start_fd, const char *path)
{
	int fd = openat(start_fd, path, O_RDONLY | O_CLOEXEC);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "rb");
	uint8_t *whole = malloc(INPUT_MAX);
	if (!file || !whole) {
		fprintf(stderr, "cannot read %s: %s\n", path, strerror(errno));
		exit(2);
	}
	size_t size = fread(whole, 1, INPUT_MAX, file);
	fclose(file);
	uint8_t *exact = malloc(size ? size : 1); /* a read past its end is seen */
	MUST(exact);
	memcpy(exact, whole, size);
	free(whole);
	LLVMFuzzerTestOneInput(exact, size);
	free(exact);
}

int main(int argc, char **argv)
{
	int start_fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
	for (int i = 1; i < argc; i++) {
		printf("# %s\n", argv[i]); /* the last one, should it die here */
		fflush(stdout);
		replay(start_fd, argv[i]);
	}
	printf("ok fuzz/%s\n", program_invocation_short_name);
	return 0;
}
