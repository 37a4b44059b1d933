module anodenet

go 1.26
