#include "steer.h"

#include <errno.h>
#include <linux/filter.h>
#include <stdint.h>
#include <sys/socket.h>

/* Offsets of the network header, which a filter of UDP finds before what is its packet (SKF_NET_OFF). */
enum {
	VERSION = SKF_NET_OFF,
	IPV4_SOURCE = SKF_NET_OFF + 12,
	IPV6_SOURCE = SKF_NET_OFF + 8,
};

#define MIX 0x9e3779b1u

int steer_by_address(int fd, int count)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, (uint32_t)VERSION),
		BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 4),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 4, 0, 2),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)IPV4_SOURCE),
		BPF_JUMP(BPF_JMP | BPF_JA, 10, 0, 0),
		/* IPv6: its four words together. */
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)IPV6_SOURCE),
		BPF_STMT(BPF_MISC | BPF_TAX, 0),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)IPV6_SOURCE + 4),
		BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
		BPF_STMT(BPF_MISC | BPF_TAX, 0),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)IPV6_SOURCE + 8),
		BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
		BPF_STMT(BPF_MISC | BPF_TAX, 0),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)IPV6_SOURCE + 12),
		BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
		/* Neighbours are spread: the high bits of a product depend on all of the address. */
		BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, MIX),
		BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 16),
		BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, (uint32_t)count),
		BPF_STMT(BPF_RET | BPF_A, 0),
	};
	struct sock_fprog program = { .len = sizeof(code) / sizeof(*code), .filter = code };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof(program)) < 0 ? -errno : 0;
}
