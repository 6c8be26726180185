// A real source file for the compiler: two libraries of Debian's libstb-dev, about 3000 lines.
#define STB_SPRINTF_IMPLEMENTATION
#include <stb/stb_sprintf.h>
#define STB_RECT_PACK_IMPLEMENTATION
#include <stb/stb_rect_pack.h>
