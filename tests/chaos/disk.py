"""PostgreSQL's files on a small file system of their own, whose size is what is used when it is to be full."""
import os
import subprocess

ROOM_BYTES = 4 << 30
PAGE_BYTES = 4096


class Disk:
    def __init__(self, path):
        self.path = path

    @classmethod
    def mount(cls, path):
        """None where that is not allowed."""
        path.mkdir(parents=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM_BYTES}", "usagebox-chaos", str(path)],
                              capture_output=True, check=False) if os.geteuid() == 0 else None
        if not done or done.returncode != 0:
            path.rmdir()
            return None
        return cls(path)

    def fill(self):
        """Some pages are left at times: a file system can't be made smaller than what it holds, and that grows."""
        for more_pages in range(1, 500, 25):
            used = os.statvfs(self.path)
            pages = (used.f_blocks - used.f_bfree) * used.f_frsize // PAGE_BYTES
            if self._resize((pages + more_pages) * PAGE_BYTES):
                return True
        return False

    def make_room(self):
        assert self._resize(ROOM_BYTES), "the disk stays full"

    def unmount(self):
        subprocess.run(["umount", str(self.path)], check=True)

    def _resize(self, size_bytes):
        command = ["mount", "-o", f"remount,size={size_bytes}", str(self.path)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
