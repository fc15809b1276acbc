/* SPDX-License-Identifier: Apache-2.0 */
/* The payloads of floor, and of fork and restore with --bare. */
#include <elf.h>
#include <stddef.h>
#include <string.h>

#include "vmm/bench/bench.h"
#include "vmm/bench/guest.h"

#define PAYLOAD_ADDR 0x100000u
#define XEN_ELFNOTE_PHYS32_ENTRY 18u

/*
 * The payload as an ELF file. wisp enters it in 64-bit mode at e_entry; monitors that support PVH enter it in 32-bit
 * mode at the address in the note. The instructions mean the same in both modes. Without a peer, the stamp is the
 * signal, and execution starts after the instructions that write to the serial port.
 */
#define LINE BENCH_GUEST_MARK "begin " BENCH_GUEST_KERNEL "\n"

struct payload {
	Elf64_Ehdr header;
	Elf64_Phdr load, note;
	struct {
		Elf64_Nhdr header;
		char name[4];
		uint32_t entry;
	} pvh;
	/* `fill`, for clones: touches pages from FILL_ADDR on, and then signals again and again. */
	uint8_t say[17], code[20], fill[33];
	char line[sizeof(LINE)];
};

#define FILL_ADDR 0x1000000
#define ADDR_OF(member) (PAYLOAD_ADDR + offsetof(struct payload, member))
#define BYTES(number) (number) & 0xff, (number) >> 8 & 0xff, (number) >> 16 & 0xff, (number) >> 24

static const struct payload payload = {
        .header =
                {
                        .e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                        .e_type = ET_EXEC,
                        .e_machine = EM_X86_64,
                        .e_version = EV_CURRENT,
                        .e_entry = ADDR_OF(say),
                        .e_phoff = offsetof(struct payload, load),
                        .e_ehsize = sizeof(Elf64_Ehdr),
                        .e_phentsize = sizeof(Elf64_Phdr),
                        .e_phnum = 2,
                },
        .load =
                {
                        .p_type = PT_LOAD,
                        .p_flags = PF_R | PF_W | PF_X,
                        .p_vaddr = PAYLOAD_ADDR,
                        .p_paddr = PAYLOAD_ADDR,
                        .p_filesz = sizeof(struct payload),
                        .p_memsz = sizeof(struct payload),
                        .p_align = 4096,
                },
        .note =
                {
                        .p_type = PT_NOTE,
                        .p_flags = PF_R,
                        .p_offset = offsetof(struct payload, pvh),
                        .p_vaddr = ADDR_OF(pvh),
                        .p_paddr = ADDR_OF(pvh),
                        .p_filesz = 20,
                        .p_memsz = 20,
                        .p_align = 4,
                },
        .pvh = {.header = {.n_namesz = 4, .n_descsz = 4, .n_type = XEN_ELFNOTE_PHYS32_ENTRY},
                .name = "Xen",
                .entry = ADDR_OF(say)},
        .say =
                {
                        0xfc,                                                           /* cld */
                        0xbe, BYTES(ADDR_OF(line)),                                     /* mov $line, %esi */
                        0xb9, BYTES(sizeof(LINE) - 1),                                  /* mov $size, %ecx */
                        0x66, 0xba, BENCH_GUEST_SERIAL & 0xff, BENCH_GUEST_SERIAL >> 8, /* mov $0x3f8, %dx */
                        0xf3, 0x6e,                                                     /* rep outsb */
                },
        .code =
                {
                        0x66, 0xba, 0x04, 0x06, /*    mov $0x604, %dx */
                        0xb0, 0x20,             /*    mov $0x20, %al    the stamp "entered" (vmm/shared/platform.h) */
                        0xee,                   /*    out %al, %dx */
                        0x66, 0xba, 0x00, 0x06, /*    mov $0x600, %dx */
                        0xb0, 0x01,             /*    mov $1, %al       power off */
                        0xee,                   /*    out %al, %dx */
                        0xf4,                   /* 1: hlt */
                        0xeb, 0xfd,             /*    jmp 1b */
                },
        .fill =
                {
                        0xb9, BYTES(0),          /*    mov $pages, %ecx */
                        0xbf, BYTES(FILL_ADDR),  /*    mov $address, %edi */
                        0xe3, 0x0c,              /*    jrcxz 2f */
                        0x89, 0x0f,              /* 1: mov %ecx, (%rdi) */
                        0x81, 0xc7, BYTES(4096), /*    add $4096, %edi */
                        0xff, 0xc9,              /*    dec %ecx */
                        0x75, 0xf4,              /*    jnz 1b */
                        0x66, 0xba, 0x04, 0x06,  /* 2: mov $0x604, %dx */
                        0xb0, 0x20,              /*    mov $0x20, %al */
                        0xee,                    /* 3: out %al, %dx */
                        0xeb, 0xfd,              /*    jmp 3b */
                },
        .line = LINE,
};

int bench_write_payload(const char *path, bool says)
{
	struct payload image = payload;
	if (!says)
		image.header.e_entry = ADDR_OF(code);
	return bench_write_file(path, &image, sizeof(image));
}

int bench_write_filler(const char *path, uint32_t pages)
{
	struct payload image = payload;
	image.header.e_entry = ADDR_OF(fill);
	memcpy(image.fill + 1, &pages, sizeof(pages));
	return bench_write_file(path, &image, sizeof(image));
}
